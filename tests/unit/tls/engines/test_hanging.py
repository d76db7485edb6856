"""Pools and engines that hang, or keep dying: they are replaced, and their clients lose nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from s6tls.tls.engines import pools
from s6tls.tls.parameters import TlsParameters
from tests.support import pki
from tests.support.kin import children
from tests.support.processes import await_that
from tests.support.servers import PATIENCE
from tests.support.tls.pools import Connection, Server, engine_of, with_files


def test_a_pool_that_takes_nothing_is_replaced_and_its_connections_are_served(
    connection_server: Server,
    parameters: TlsParameters,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = connection_server
    monkeypatch.setattr(pools, "PATIENCE_S", 0.5)
    before = server.connect(parameters)
    before.shake_hands()
    keeper = server.pool()
    stopped = [pid for pid in [keeper, *children(keeper)] if pid != engine_of(server, before)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    await_that(lambda: all("State:\tT" in Path(f"/proc/{pid}/status").read_text() for pid in stopped))
    try:
        waiting = [server.connect(parameters) for _ in range(3)]
        server.await_another_than(keeper)
        for connection in waiting:
            connection.shake_hands()
            assert connection.works()
        assert os.WTERMSIG(os.waitpid(keeper, 0)[1]) == signal.SIGKILL
        line = f"s6-tlsd-io: warning: pool {keeper} of TLS engines takes nothing for 0.5 s: replacing it\n"
        assert capfd.readouterr().err.count(line) == 1
        await_end_of(stopped)
        assert before.works()
    finally:
        kill(stopped)


def test_a_stopped_pool_that_gets_no_more_connections_does_not_stay(
    connection_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = connection_server
    monkeypatch.setattr(pools, "_LAST_S", 0.1)
    parameters = with_files(tmp_path, pki.pair())
    before = server.connect(parameters)
    before.shake_hands()
    keeper = server.pool()
    await_that(lambda: 3 <= len(children(keeper)) <= 5)
    stopped = [pid for pid in [keeper, *children(keeper)] if pid != engine_of(server, before)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        pki.pair("next.example").write(tmp_path)
        server.connect(parameters).shake_hands()
        server.reactor.after(0.2, server.reactor.stop)
        server.reactor.run()
        assert os.WTERMSIG(server.reap(keeper)) == signal.SIGKILL
        await_end_of(stopped)
        assert before.works()
    finally:
        kill(stopped)


@pytest.mark.parametrize("hangs", [True, False])
def test_an_engine_whose_client_is_given_up_ends_or_is_killed(
    connection_server: Server, parameters: TlsParameters, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    server = connection_server
    monkeypatch.setattr(pools, "_HANGS_S", 0.1 if hangs else 2 * PATIENCE)
    silent = server.connect(parameters)
    await_that(lambda: has_engine(server, silent))
    engine, before = engine_of(server, silent), set(os.listdir("/proc/self/fd"))
    if hangs:
        os.kill(engine, signal.SIGSTOP)
    server.pools.expect_end(silent.notified)
    silent.client.shutdown(socket.SHUT_WR)
    server.reactor.after(PATIENCE, lambda: pytest.fail("it is there for ever"))
    while set(os.listdir("/proc/self/fd")) != before:
        server.reactor.turn()
    await_end_of([engine])


def has_engine(server: Server, connection: Connection) -> bool:
    try:
        return bool(engine_of(server, connection))
    except ValueError:
        return False


def await_end_of(pids: list[int]) -> None:
    await_that(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_pools_that_keep_dying_are_started_ever_more_slowly_and_their_connections_are_served(
    connection_server: Server, parameters: TlsParameters, capfd: pytest.CaptureFixture[str]
) -> None:
    server = connection_server
    server.connect(parameters).shake_hands()
    rests = []
    for _ in range(3):
        keeper = server.pool()
        engines = children(keeper)
        kill([keeper, *engines])
        server.reap(keeper)
        died = time.monotonic()
        await_end_of(engines)  # one that is dying could take the next client
        waiting = server.connect(parameters)
        server.await_another_than(keeper)
        rests.append(time.monotonic() - died)
        waiting.shake_hands()
        assert waiting.works()
    assert rests[0] >= 0.2 and rests[1] >= 0.4 and rests[2] >= 0.8
    assert capfd.readouterr().err.count("was ended by SIGKILL") == 1
