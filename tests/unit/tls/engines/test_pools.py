"""Which pool gets a connection: files that change, and connections that wait."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from OpenSSL import SSL

from s6tls.helper import reply
from s6tls.tls.credentials import SESSION_VARIABLES, CredentialPaths, SessionOptions
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi.image import StageExit
from tests.support import pki
from tests.support.kin import children
from tests.support.pki import Pair
from tests.support.processes import await_that, sockets
from tests.support.tls.memory import client_context
from tests.support.tls.pools import Connection, Server, with_files

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

SHORT = SessionOptions(ticket_lifetime_s=4)


# Sessions


def test_a_session_is_held_and_its_end_is_the_application_s(server: Server, parameters: TlsParameters) -> None:
    connection = server.connect(parameters)
    connection.shake_hands()
    variables = reply.parse(os.read(connection.notified, reply.LARGEST), SESSION_VARIABLES)
    assert variables[b"SSL_PROTOCOL"] == b"TLSv1.3"
    assert connection.works()


def test_many_sessions_at_once_do_not_wait_for_one_another(server: Server, parameters: TlsParameters) -> None:
    silent = [server.connect(parameters) for _ in range(5)]
    talking = [server.connect(parameters) for _ in range(20)]
    for connection in talking:
        connection.shake_hands()
    assert all(connection.works() for connection in reversed(talking))
    for connection in silent:
        connection.shake_hands()
        assert connection.works()


def test_sessions_resume_whichever_engine_they_meet(server: Server, parameters: TlsParameters) -> None:
    context = client_context(SSL.TLS1_2_VERSION)
    first = server.connect(parameters)
    first.shake_hands(context)
    session = first.ticket()
    for _ in range(6):
        connection = server.connect(parameters)
        connection.shake_hands(context, session)
        assert connection.resumed() and connection.works()
        connection.tls.shutdown()


def test_a_failed_handshake_is_told_to_the_server(
    server: Server, parameters: TlsParameters, capfd: pytest.CaptureFixture[str]
) -> None:
    connection = server.connect(parameters)
    connection.client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert os.read(connection.notified, 100) == b"!97 http request\0\0"
    connection.client.close()
    assert os.read(connection.notified, 100) == b"in=0\0out=0\0failure=\0fault=\0\0"
    assert connection.refused()
    assert capfd.readouterr().err == ""


def test_the_server_hears_of_a_session_until_it_has_ended(server: Server, parameters: TlsParameters) -> None:
    connection = server.connect(parameters)
    connection.shake_hands()
    assert os.read(connection.notified, 4096).endswith(b"\0\0")
    assert connection.works()
    connection.tls.shutdown()
    os.close(connection.stdout)
    connection.stdout = os.open("/dev/null", os.O_WRONLY)
    assert not select.select([connection.notified], [], [], 0.1)[0]
    connection.client.close()
    assert os.read(connection.notified, 4096) == b"in=4\0out=4\0failure=\0fault=\0\0"
    assert connection.refused()


# Ticket keys that change


def test_a_ticket_outlives_one_change_of_keys_and_sessions_any(server: Server, parameters: TlsParameters) -> None:
    parameters, context = replace(parameters, options=SHORT), client_context(SSL.TLS1_2_VERSION)
    running = server.connect(parameters)
    running.shake_hands()

    def connect(session: SSL.Session | None = None) -> Connection:
        connection = server.connect(parameters)
        connection.shake_hands(context, session)
        assert connection.works()
        return connection

    def await_change() -> None:
        """Those who wait for connections have all gone, and others wait."""
        (control,) = sockets(server.pool())

        def waiting() -> set[int]:
            found = set()
            for pid in children(server.pool()):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    found |= {pid} if control in sockets(pid) else set()
            return found

        before = waiting()
        await_that(lambda: bool(now := waiting()) and not now & before)

    await_change()
    time.sleep(SHORT.ticket_lifetime_s / 2)  # a ticket lasts as long as its key seals: this one, beyond the next change
    held = connect().ticket()
    await_change()
    assert connect(held).resumed()
    await_change()
    assert not connect(held).resumed()
    assert running.works()


# Files that change


def test_a_changed_certificate_serves_the_next_client_and_old_sessions_live_on(server: Server, tmp_path: Path) -> None:
    parameters = with_files(tmp_path, pki.pair())
    old = server.connect(parameters)
    old.shake_hands()
    first_pool = server.pool()
    pki.pair("next.example").write(tmp_path)
    new = server.connect(parameters)
    new.shake_hands()
    assert new.serial() != old.serial()
    assert server.pool() != first_pool
    assert old.works() and new.works()
    old.client.close()
    os.close(old.stdout)
    old.stdout = os.open("/dev/null", os.O_WRONLY)
    assert os.read(old.stdin, 1) == b""
    assert os.WEXITSTATUS(server.await_end(first_pool)) == 0


def test_a_ticket_of_the_old_certificate_is_not_taken_by_the_new_one(server: Server, tmp_path: Path) -> None:
    parameters, context = with_files(tmp_path, pki.pair()), client_context(SSL.TLS1_2_VERSION)
    old = server.connect(parameters)
    old.shake_hands(context)
    old_pool, session = server.pool(), old.ticket()
    pki.pair("next.example").write(tmp_path)
    new = server.connect(parameters)
    new.shake_hands(context, session)
    assert not new.resumed()
    server.connections.close()
    server.await_end(old_pool)


def test_a_broken_key_refuses_with_96_until_the_files_change(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = pki.pair()
    parameters = with_files(tmp_path, Pair(b"garbage", good.chain))
    assert server.refuses(parameters) == 96
    assert "s6-tlsd-io: fatal: unable to read KEYFILE " in capfd.readouterr().err
    for _ in range(3):
        with pytest.raises(StageExit) as refused:
            server.connect(parameters)
        assert refused.value.code == 96
    good.write(tmp_path)
    connection = server.connect(parameters)
    connection.shake_hands()
    assert connection.works()


def test_a_missing_file_refuses_with_96_until_it_is_there(server: Server, tmp_path: Path) -> None:
    parameters = with_files(tmp_path, pki.pair())
    first = server.connect(parameters)
    first.shake_hands()
    (tmp_path / "server.key").rename(tmp_path / "elsewhere")
    with pytest.raises(StageExit, match=r"server\.key") as refused:
        server.connect(parameters)
    assert refused.value.code == 96
    (tmp_path / "elsewhere").rename(tmp_path / "server.key")
    old_pool = server.pool()
    connection = server.connect(parameters)
    connection.shake_hands()
    assert connection.works() and first.works()
    if server.pool() != old_pool:  # the rename changed the file's ctime
        server.connections.close()
        server.await_end(old_pool)


def test_pools_that_nobody_used_for_long_make_room_for_new_ones(
    connection_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s6tls.tls.engines.pools._MOST_POOLS", 2)
    each = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        each.append(with_files(tmp_path / name, pki.pair()))
    connection_server.connect(each[0]).shake_hands()
    first = connection_server.pool()
    connection_server.connect(each[1]).shake_hands()
    connection_server.connect(each[2]).shake_hands()
    connection_server.connections.close()
    connection_server.await_end(first)


# More than a pool can take at once


def test_connections_that_wait_for_a_stopped_pool_are_served_in_the_end_even_under_an_old_certificate(
    connection_server: Server, tmp_path: Path
) -> None:
    parameters = with_files(tmp_path, pki.pair())
    first = connection_server.connect(parameters)
    first.shake_hands()
    pool = connection_server.pool()
    entry = list(connection_server.pools._entries.values())[-1]
    os.kill(pool, signal.SIGSTOP)
    entry.pool.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    waiting = [connection_server.connect(parameters) for _ in range(30)]
    assert not entry.pool.flush()
    pki.pair("next.example").write(tmp_path)
    new = connection_server.connect(parameters)
    new.shake_hands()
    os.kill(pool, signal.SIGCONT)
    for connection in waiting:
        while not select.select([connection.notified], [], [], 0)[0]:
            start_handshake(connection)
            connection_server.reactor.after(0.01, connection_server.reactor.stop)
            connection_server.reactor.run()
        assert connection.works()
        assert connection.serial() == first.serial() != new.serial()
    connection_server.connections.close()
    connection_server.await_end(pool)


def start_handshake(connection: Connection) -> None:
    """Go on with a handshake as far as it goes without waiting."""
    if not hasattr(connection, "tls"):
        connection.tls = SSL.Connection(client_context(), connection.client)
        connection.tls.set_connect_state()
        connection.client.setblocking(False)
    with contextlib.suppress(SSL.WantReadError):
        connection.tls.do_handshake()
        connection.client.setblocking(True)


# Files that change faster than the clock


class OneTick(CredentialPaths):
    """Files that are written again while their clock stands still at `now`."""

    now: ClassVar[int] = 0

    def stamps(self) -> tuple[Stamp, ...]:
        return ((0, 0, 0, 0, self.now),)


def test_a_file_rewritten_within_one_tick_of_the_clock_shows(connection_server: Server, tmp_path: Path) -> None:
    """Nothing about such a file tells, but its bytes."""
    parameters = TlsParameters(OneTick(pki.paths(tmp_path, pki.pair()).keypairs), SessionOptions())
    OneTick.now = time.time_ns()
    connection_server.pools.prepare(parameters)
    first = connection_server.pool()
    chain = tmp_path / "server.crt"
    chain.write_bytes(chain.read_bytes() + b"\n")
    connection_server.pools.prepare(parameters)
    assert connection_server.pool() != first
    connection_server.await_end(first)


def test_a_file_that_has_just_been_written_costs_no_pool_for_each_client(
    connection_server: Server, parameters: TlsParameters
) -> None:
    connection_server.pools.prepare(parameters)
    pool = connection_server.pool()
    entry = list(connection_server.pools._entries.values())[-1]

    def stable() -> bool:
        connection_server.pools.prepare(parameters)
        return entry.stable

    await_that(stable)
    assert connection_server.pool() == pool


def test_a_look_at_very_many_files_is_not_taken_for_each_client(connection_server: Server, tmp_path: Path) -> None:
    """The next is taken when that costs little of all the time; what has changed is seen then."""
    names, pair = tmp_path / "names", pki.pair()
    names.mkdir()
    pki.replace(tmp_path / "both", pair.key + pair.chain)
    for number in range(400):
        (names / f"n{number}.example.pem").symlink_to(tmp_path / "both")
    parameters = TlsParameters(CredentialPaths((), sni_directory=os.fsencode(names)), SessionOptions())
    look = connection_server.pools._entry
    entry = look(parameters)
    (names / "another.example.pem").symlink_to(tmp_path / "both")
    assert look(parameters) is entry or time.monotonic() >= entry.looks_again
    await_that(lambda: look(parameters) is not entry)


def test_a_slow_look_at_few_files_is_no_reason_to_look_less_often(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine even two files may take a while, and then a new certificate was not seen at once."""
    monkeypatch.setattr("s6tls.tls.engines.pools._QUICK_LOOK_S", -1.0)
    monkeypatch.setattr("s6tls.tls.engines.pools._RESTS", 1e9)
    parameters = with_files(tmp_path, pki.pair())
    first = server.connect(parameters)
    first.shake_hands()
    pki.pair("next.example").write(tmp_path)
    new = server.connect(parameters)
    new.shake_hands()
    assert new.serial() != first.serial()
