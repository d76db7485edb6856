"""Keys and certificates are renewed, one after the other: until both are there, the last go on.  And OCSP responses."""

from __future__ import annotations

import datetime
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from s6tls.tls.credentials import ClientCertificate, CredentialPaths, KeypairPaths, SessionOptions
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi.image import StageExit
from tests.support import pki
from tests.support.kin import children
from tests.support.pki import Pair
from tests.support.processes import await_that
from tests.support.tls.memory import client_context
from tests.support.tls.pools import Server, with_files


def mismatch(place: Path, kind: str = "fatal", more: str = "") -> str:
    """What is said of a key and a certificate that do not belong together."""
    pair = f"KEYFILE {place}/server.key with CERTFILE {place}/server.crt"
    why = "the key is not that of the first certificate: name a key and a certificate that belong together"
    return f"s6-tlsd-io: {kind}: unable to use {pair}: {why}{more}\n"


def going_on(place: Path) -> str:
    """What is said where the last good pair goes on."""
    return mismatch(place, "warning", ": going on with the last key and certificate")


@pytest.mark.parametrize("key_first", [True, False])
def test_while_a_pair_is_half_renewed_the_last_one_goes_on(
    server: Server, tmp_path: Path, key_first: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    parameters, newer = with_files(tmp_path, pki.pair()), pki.pair("next.example")
    halves = [(tmp_path / "server.key", newer.key), (tmp_path / "server.crt", newer.chain)]
    first = server.connect(parameters)
    first.shake_hands()
    pool = server.pool()
    one, other = halves if key_first else reversed(halves)
    pki.replace(*one)
    waiting = [server.connect(parameters) for _ in range(3)]
    status = server.reap(server.pool())
    assert os.WEXITSTATUS(status) == 95
    waiting += [server.connect(parameters) for _ in range(2)]
    for connection in waiting:
        connection.shake_hands()
        assert connection.works() and connection.serial() == first.serial()
    assert server.pool() == pool
    assert capfd.readouterr().err == going_on(tmp_path)
    pki.replace(*other)
    renewed = server.connect(parameters)
    renewed.shake_hands()
    assert renewed.works() and renewed.serial() != first.serial() and first.works()
    server.connections.close()
    server.await_end(pool)
    assert capfd.readouterr().err == ""


def test_the_other_half_may_come_before_the_first_has_been_found_to_be_one(server: Server, tmp_path: Path) -> None:
    parameters, newer = with_files(tmp_path, pki.pair()), pki.pair("next.example")
    first = server.connect(parameters)
    first.shake_hands()
    pool = server.pool()
    pki.replace(tmp_path / "server.key", newer.key)
    early = server.connect(parameters)
    on_trial = server.pool()
    pki.replace(tmp_path / "server.crt", newer.chain)
    late = server.connect(parameters)
    for connection in (early, late):
        connection.shake_hands()
        assert connection.works() and connection.serial() != first.serial()
    assert os.WEXITSTATUS(server.await_end(on_trial)) == 95
    server.connections.close()
    server.await_end(pool)


def test_a_pair_that_is_put_back_serves_again(server: Server, tmp_path: Path) -> None:
    good = pki.pair()
    parameters = with_files(tmp_path, good)
    server.connect(parameters).shake_hands()
    pool = server.pool()
    pki.replace(tmp_path / "server.key", pki.pair("next.example").key)
    server.connect(parameters)
    server.reap(server.pool())
    good.write(tmp_path)
    connection = server.connect(parameters)
    connection.shake_hands()
    assert connection.works() and server.pool() != pool
    server.connections.close()
    server.await_end(pool)


def test_where_authorities_have_changed_too_nobody_is_served_by_the_old_ones(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trusted = tmp_path / "ca.pem"
    pki.replace(trusted, pki.root("clients"))
    options = SessionOptions(client_certificate=ClientCertificate.OPTIONAL)
    paths = replace(pki.paths(tmp_path, pki.pair()), ca_file=os.fsencode(trusted))
    parameters = TlsParameters(paths, options)
    server.connect(parameters).shake_hands()
    pool = server.pool()
    pki.replace(trusted, pki.root("others"))
    pki.replace(tmp_path / "server.key", pki.pair("next.example").key)
    assert server.refuses(parameters) == 96
    assert capfd.readouterr().err == mismatch(tmp_path)
    with pytest.raises(StageExit):
        server.connect(parameters)
    server.connections.close()
    server.await_end(pool)


def test_a_pair_that_has_never_matched_is_an_error(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parameters = with_files(tmp_path, Pair(pki.pair().key, pki.pair("other.example").chain))
    for _ in range(2):
        assert server.refuses(parameters) == 96
        assert capfd.readouterr().err == mismatch(tmp_path)
        pki.replace(tmp_path / "server.key", pki.pair().key)


def test_a_last_pool_that_dies_is_not_gone_back_to(server: Server, tmp_path: Path) -> None:
    parameters = with_files(tmp_path, pki.pair())
    server.pools.prepare(parameters)
    pool = server.pool()
    pki.replace(tmp_path / "server.key", pki.pair("next.example").key)
    server.pools.prepare(parameters)
    os.kill(pool, signal.SIGKILL)
    server.reap(pool)
    assert os.WEXITSTATUS(server.reap(server.pool())) == 95
    with pytest.raises(StageExit) as refused:
        server.connect(parameters)
    assert refused.value.code == 96


def test_when_a_pool_on_trial_is_killed_another_one_is_tried_and_nobody_is_lost(server: Server, tmp_path: Path) -> None:
    parameters = with_files(tmp_path, pki.pair())
    first = server.connect(parameters)
    first.shake_hands()
    pool = server.pool()
    pki.replace(tmp_path / "server.key", pki.pair("next.example").key)
    waiting = server.connect(parameters)
    killed = server.pool()
    os.kill(killed, signal.SIGKILL)
    if os.WIFSIGNALED(server.reap(killed)):  # it has not found the mismatch yet
        server.await_another_than(killed)
        assert os.WEXITSTATUS(server.reap(server.pool())) == 95
    assert server.pool() == pool
    waiting.shake_hands()
    assert waiting.works() and waiting.serial() == first.serial()


def test_those_who_wait_for_a_last_pool_that_dies_are_served_by_the_next(
    connection_server: Server, tmp_path: Path
) -> None:
    server, parameters = connection_server, with_files(tmp_path, pki.pair())
    server.pools.prepare(parameters)
    pool = server.pool()
    os.kill(pool, signal.SIGSTOP)
    engines = children(pool)
    for pid in engines:
        os.kill(pid, signal.SIGSTOP)
    waiting = server.connect(parameters)
    pki.pair("next.example").write(tmp_path)
    newer = server.connect(parameters)
    for pid in (*engines, pool):
        os.kill(pid, signal.SIGKILL)
    server.reap(pool)
    for connection in (waiting, newer):
        connection.shake_hands()
        assert connection.works()


def test_a_pair_in_one_file_is_read_at_one_moment(server: Server, tmp_path: Path) -> None:
    pair, path = pki.pair(), tmp_path / "both.pem"
    pki.replace(path, pair.key + pair.chain)
    both = os.fsencode(path)
    parameters = TlsParameters(CredentialPaths((KeypairPaths(b"", both, both),)), SessionOptions())
    connection = server.connect(parameters)
    connection.shake_hands()
    assert connection.works()
    pool = server.pool()
    newer = pki.pair("next.example")
    pki.replace(path, newer.chain + newer.key)
    renewed = server.connect(parameters)
    renewed.shake_hands()
    assert renewed.serial() != connection.serial()
    server.connections.close()
    server.await_end(pool)


# OCSP responses


def test_a_response_is_read_anew_when_it_changes_and_refuses_nobody(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pair, file = pki.pair(by="ours/issuing"), tmp_path / "response"
    (paths,) = pki.paths(tmp_path, pair).keypairs
    parameters = TlsParameters(CredentialPaths((paths._replace(response=os.fsencode(file)),)), SessionOptions())

    def stapled() -> bytes:
        heard: list[bytes] = []
        context = client_context()
        context.set_ocsp_client_callback(lambda _, data, __: heard.append(data) or True)  # type: ignore[func-returns-value]
        connection = server.connect(parameters)
        connection.shake_hands(context, stapled=True)
        assert connection.works()
        return b"".join(heard)

    def complaints() -> list[str]:
        server.turn()
        return capfd.readouterr().err.splitlines()

    assert stapled() == stapled() == b""
    left_out = f"s6-tlsd-io: warning: unable to use OCSPFILE {file}: "
    assert complaints() == [f"{left_out}not there, not readable or empty: it is left out"]
    for days in (1, 2):
        response = pki.ocsp_response(pair, days=days)
        pki.replace(file, response)
        assert stapled() == stapled() == response
    pki.replace(file, pki.ocsp_response(pair, days=-0.5))
    assert stapled() == stapled() == b""
    assert complaints() == [f"{left_out}expired: it is left out"]


def test_a_response_that_runs_out_in_use_is_told_once(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pair, file = pki.pair(by="ours/issuing"), tmp_path / "response"
    (paths,) = pki.paths(tmp_path, pair).keypairs
    parameters = TlsParameters(CredentialPaths((paths._replace(response=os.fsencode(file)),)), SessionOptions())
    pki.replace(file, pki.ocsp_response(pair, days=2 / 86400))
    server.connect(parameters).shake_hands()
    said = ""

    def told() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return bool(said)

    await_that(told)
    assert said == f"s6-tlsd-io: warning: OCSPFILE {file} has expired: it is left out\n"


def test_a_certificate_that_runs_out_in_use_is_told_once(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parameters = with_files(tmp_path, pki.lasting(datetime.timedelta(seconds=2)))
    server.connect(parameters)
    said = ""

    def told() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return said.count("\n") >= 2

    await_that(told)
    begin = f"s6-tlsd-io: warning: CERTFILE {tmp_path}/server.crt: the certificate of CN=server.example"
    soon, expired = said.splitlines()
    assert soon.startswith(f"{begin} expires soon, on ") and expired.startswith(f"{begin} has expired, on ")
