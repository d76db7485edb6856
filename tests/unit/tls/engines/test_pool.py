"""Pools and engines as processes: what they hold, under which ids, and what follows when one dies."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from s6tls.accessrules.stamp import stamp_of
from s6tls.posix.identity import Identity, IdRange
from s6tls.tls.credentials import Isolation, SniLevel
from s6tls.tls.engines import pool
from s6tls.tls.parameters import TlsParameters
from tests.support import pki
from tests.support.kin import children
from tests.support.processes import await_that, descriptors, status
from tests.support.tls.pools import Server, engine_of, ids, with_files

if TYPE_CHECKING:
    pass


# Pools that cannot start


@pytest.mark.parametrize("room", range(5))
def test_a_pool_that_cannot_start_leaves_no_descriptor(room: int, parameters: TlsParameters) -> None:
    """A server that is short of them tries for each client."""
    credentials = parameters.paths.read()
    before = descriptors(os.getpid())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            pool.start(parameters, credentials, Isolation.CONNECTION)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert descriptors(os.getpid()).keys() == before.keys()


# Pools that die


def test_a_pool_that_was_killed_is_started_again_and_its_sessions_live_on(
    server: Server, parameters: TlsParameters
) -> None:
    before = server.connect(parameters)
    before.shake_hands()
    killed = server.pool()
    os.kill(killed, signal.SIGKILL)
    server.reap(killed)
    after = server.connect(parameters)
    server.await_another_than(killed)
    after.shake_hands()
    assert before.works() and after.works()


def test_an_engine_that_was_killed_is_replaced(server: Server, parameters: TlsParameters) -> None:
    before = server.connect(parameters)
    before.shake_hands()
    engine = engine_of(server, before)
    number = len(children(server.pool()))
    os.kill(engine, signal.SIGKILL)
    for _ in range(3):
        connection = server.connect(parameters)
        connection.shake_hands()
        assert connection.works()
    await_that(lambda: len(children(server.pool())) >= min(number, 2))


def test_engines_that_fail_while_they_wait_are_forked_ever_more_slowly(
    connection_server: Server, parameters: TlsParameters, capfd: pytest.CaptureFixture[str]
) -> None:
    """As when they cannot take the ids that they are to have."""
    options = replace(parameters.options, engine_uids=IdRange(2**32 - 1, 2**32 - 1))
    failing = replace(parameters, options=options, identity=Identity(64_001, 64_002))
    connection = connection_server.connect(failing)
    pool = connection_server.pool()
    try:
        await_that(lambda: "a TLS engine says: unable to go on" in capfd.readouterr().err)
        before = turns(pool)
        assert not select.select([connection.notified], [], [], 1)[0]
        assert turns(pool) - before < 20
    finally:
        os.kill(pool, signal.SIGKILL)  # it would wait for an engine that takes the connection


def turns(pid: int) -> int:
    """Return how often a process has waited for something."""
    return int(status(pid)["voluntary_ctxt_switches"])


def test_a_pool_that_cannot_fork_tries_again(
    connection_server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uid = 200_000 + os.getpid()
    parameters = replace(with_files(tmp_path, pki.pair()), identity=Identity(uid, uid))
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    others = [subprocess.Popen(["sleep", "60"], user=uid, group=uid) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NPROC, (3, limits[1]))
    try:
        connection = connection_server.connect(parameters)
        said = ""

        def warned() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return "s6-tlsd-io: warning: unable to fork" in said

        await_that(warned)
        assert not select.select([connection.notified], [], [], 1)[0]
        assert (said + capfd.readouterr().err).count("unable to fork") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, limits)
        for other in others:
            other.kill()
            other.wait()
    connection.shake_hands()
    assert connection.works()


def test_ids_that_cannot_be_taken_are_tried_again_with_the_next_client(
    server: Server, parameters: TlsParameters, capfd: pytest.CaptureFixture[str]
) -> None:
    impossible = replace(parameters, identity=Identity(2**32 - 1, None))  # -1, to the kernel
    for _ in range(2):
        assert server.refuses(impossible) == 111
    assert "s6-tlsd-io: fatal: unable to drop privileges" in capfd.readouterr().err


# What they hold


def test_engines_run_under_the_ids_of_the_rule_and_hold_only_their_connection(
    connection_server: Server, parameters: TlsParameters
) -> None:
    mine = replace(parameters, identity=Identity(64_001, 64_002))
    connection = connection_server.connect(mine)
    connection.shake_hands()
    assert connection.works()
    engine = engine_of(connection_server, connection)
    for pid in (engine, connection_server.pool(), *children(connection_server.pool())):
        assert ids(pid) == {"Uid": [64_001] * 4, "Gid": [64_002] * 4, "Groups": []}
    ours = descriptors(os.getpid())
    links = descriptors(engine)
    assert links.pop(0) == links.pop(1) == "/dev/null"
    assert links.pop(2).startswith("pipe:") and descriptors(connection_server.pool())[2] == ours[2]
    assert sum(link.startswith("socket:") for link in links.values()) == 1
    assert sorted(link for link in links.values() if not link.startswith("socket:")) == sorted(
        [ours[connection.stdin], ours[connection.stdout], ours[connection.notified], "anon_inode:[eventpoll]"]
    )


def test_workers_run_under_the_ids_of_the_rule(parameters: TlsParameters) -> None:
    server = Server(Isolation.WORKER)
    connection = server.connect(replace(parameters, identity=Identity(64_001, 64_002)))
    connection.shake_hands()
    for pid in (server.pool(), *children(server.pool())):
        assert ids(pid) == {"Uid": [64_001] * 4, "Gid": [64_002] * 4, "Groups": []}
        links = descriptors(pid)
        assert links[0] == links[1] == "/dev/null"
    server.close()


def test_waiting_engines_hold_nothing_of_the_server(
    connection_server: Server, parameters: TlsParameters, tmp_path: Path
) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        connection = connection_server.connect(parameters)
        connection.shake_hands()
        for pid in (connection_server.pool(), *children(connection_server.pool())):
            assert str(tmp_path / "secret") not in descriptors(pid).values()


def test_a_hundred_connections_leave_no_descriptor_in_the_server(server: Server, parameters: TlsParameters) -> None:
    server.connect(parameters).shake_hands()
    server.connections.close()
    before = descriptors(os.getpid())
    for _ in range(10):
        for connection in [server.connect(parameters) for _ in range(10)]:
            connection.shake_hands()
            assert connection.works()
        server.connections.close()
    assert descriptors(os.getpid()) == before


def test_engines_end_with_their_sessions(connection_server: Server, parameters: TlsParameters) -> None:
    for _ in range(10):
        connection_server.connect(parameters).shake_hands()
    connection_server.connections.close()
    await_that(lambda: 2 <= len(children(connection_server.pool())) <= 4)


# What is told of pools


def test_a_pool_tells_what_it_has_read_and_from_when_to_when_its_certificates_are_valid(
    server: Server, parameters: TlsParameters, tmp_path: Path
) -> None:
    (tmp_path / "named").mkdir()
    named = pki.paths(tmp_path / "named", pki.pair("a.example")).keypairs[0]._replace(server_name=b"a.example")
    paths = replace(parameters.paths, keypairs=(*parameters.paths.keypairs, named))
    sni = replace(parameters, paths=paths, options=replace(parameters.options, sni_level=SniLevel.OPTIONAL))
    server.pools.prepare(sni)
    server.connect(sni)
    (told,) = server.pools.told()
    assert (told.pid, told.state, told.given) == (server.pool(), "ready", 1)
    assert [(file.kind, file.path, file.server_name) for file in told.files] == [
        ("key", paths.keypairs[0].key, b""),
        ("certificate", paths.keypairs[0].chain, b""),
        ("key", named.key, b"a.example"),
        ("certificate", named.chain, b"a.example"),
    ]
    for file in told.files:
        assert file.stamp == stamp_of(os.stat(file.path))
        if file.kind == "certificate":
            leaf = x509.load_pem_x509_certificate(Path(os.fsdecode(file.path)).read_bytes())
            ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
            assert file.validity == tuple(int(end.timestamp()) for end in ends)


def test_a_pool_that_has_died_is_told_of_as_that_until_there_is_another(
    connection_server: Server, parameters: TlsParameters
) -> None:
    connection_server.connect(parameters).shake_hands()
    killed = connection_server.pool()
    os.kill(killed, signal.SIGKILL)
    connection_server.reap(killed)
    assert [(told.state, bool(told.files[1].validity)) for told in connection_server.pools.told()] == [("dead", True)]
    connection_server.await_another_than(killed)
    assert connection_server.pools.told()[0].state in ("starting", "ready")


def test_a_pool_that_has_failed_is_told_of_as_that(connection_server: Server, parameters: TlsParameters) -> None:
    pki.replace(Path(os.fsdecode(parameters.paths.keypairs[0].key)), b"nonsense")
    assert connection_server.refuses(parameters) == 96
    (told,) = connection_server.pools.told()
    assert (told.state, told.files[1].validity) == ("failed", None)
