"""A connection holds its slot until its program and its session have ended, and no longer than that."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support import kin, peers, processes
from tests.support.site import ALLOW, ENDED, Site

SESSION = r"^s6-tcpserverd: info: session 127\.0\.0\.1_{} pid \d+ seconds [\d.]+ in {} out {} protocol TLSv1\.3 "


@contextmanager
def opened(gate: Path) -> Iterator[None]:
    """Let those pass that wait at a named pipe, and those that come within the block."""
    fd = os.open(gate, os.O_RDWR)  # which waits for nobody
    try:
        yield
    finally:
        os.close(fd)


def test_a_client_that_stays_when_its_program_has_ended_holds_its_slot(site: Site, tmp_path: Path) -> None:
    by = peers.context(site.authority.file)
    gate = tmp_path / "gate"  # no program ends before both clients are there
    os.mkfifo(gate)
    with site.serve("sh", "-c", f": <{gate}; echo hi", options=("-c", "2", "-C", "2")) as server:
        with peers.dial(server, by) as first, peers.dial(server, by) as second, opened(gate):
            server.wait_log(rf"{ENDED} 0 count 2/2$", 2)
            assert (first.recv(3), second.recv(3)) == (b"hi\n", b"hi\n")
            with peers.connect(server) as third:
                third.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    peers.context(site.authority.file).wrap_socket(third, server_hostname="localhost")
            port = first.getsockname()[1]
        server.wait_log(SESSION.format(port, 0, 3) + "cipher [A-Z0-9_]+ name localhost ended$")
        server.wait_log(r"status: 0/2$", 2)
        with opened(gate):
            assert peers.answer(server, by, b"") == b"hi\n"


def test_a_sessions_line_names_the_rule_that_let_its_client_in(site: Site) -> None:
    by = peers.context(site.authority.file)
    rules = site.compile({"ip4/127.0.0.0_29": ALLOW})
    with site.serve("echo", "hi", options=("-x", rules)) as server:
        assert peers.answer(server, by, b"") == b"hi\n"
        session = SESSION.format(r"\d+", 0, 3)
        server.wait_log(session + r"cipher [A-Z0-9_]+ name localhost rule ip4/127\.0\.0\.0_29 ended$")


def test_a_program_that_stays_when_its_session_has_ended_holds_its_slot(site: Site) -> None:
    by = peers.context(site.authority.file)
    script = "read x; exec sleep 60 </dev/null >/dev/null"
    with site.serve("sh", "-c", script, options=("-c", "1")) as server:
        with peers.dial(server, by) as client:
            client.sendall(b"bye\n")
            port = client.getsockname()[1]
            pid = int(server.wait_log(r"accept 127\.0\.0\.1_\d+ pid (\d+) ")[1])
        server.wait_log(SESSION.format(port, 4, 0))
        assert server.log().splitlines()[-1].startswith("s6-tcpserverd: info: session ")
        os.kill(pid, signal.SIGTERM)
        server.wait_log(rf"end pid {pid} signal 15 count 0/1\n.*status: 0/1$")


def test_a_refused_client_holds_its_slot_as_long_as_its_engine_waits_for_it(site: Site) -> None:
    with site.serve("cat") as server:
        with peers.connect(server) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            server.wait_log("unable to complete the handshake with .*: http request$")
            assert ENDED not in server.log()
        server.wait_log(rf"{ENDED} 97 count 0/40\n.*status: 0/40$")


def test_an_engine_that_dies_ends_the_session_and_the_log_says_so(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("cat") as server, peers.dial(server, by) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        os.kill(processes.engine(server, client), signal.SIGSEGV)
        server.wait_log(r"^s6-tlsd-io: warning: TLS engine \d+ was ended by SIGSEGV$")
        server.wait_log("^s6-tcpserverd: info: session .* its engine has died$")
        server.wait_log(r"status: 0/40$", 2)


def test_a_session_whose_engine_hangs_gives_its_slot_back(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("cat", options=("--stall-timeout", "1000")) as server:
        client = peers.dial(server, by)
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        os.kill(processes.engine(server, client), signal.SIGSTOP)
        client.close()
        server.wait_log(r"^s6-tlsd-io: warning: unable to go on with 127\.0\.0\.1_\d+: its engine hangs$")
        server.wait_log(r"^s6-tlsd-io: warning: TLS engine \d+ was ended by SIGKILL$")
        server.wait_log(rf"{ENDED} 0 ")
        server.wait_log(r"status: 0/40$", 2)
        assert peers.answer(server, by, b"?") == b"?"


def not_reaped(leader: int) -> list[int]:
    """Return the ended processes of a session whose parents, of the same session, have not waited for them yet."""
    found = []
    for child in [child for parent in processes.of_session(leader) for child in kin.children(parent)]:
        with suppress(FileNotFoundError, ProcessLookupError):
            if processes.status(child)["State"].startswith("Z"):
                found.append(child)
    return found


def test_what_is_left_after_sigterm_reaps_its_children_and_ends_in_time(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("echo", "hi", options=("-K", "3000")) as server, peers.connect(server) as silent:
        late = [peers.connect(server) for _ in range(3)]
        server.wait_log("status: 4/40$")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        for connection in late:
            with by.wrap_socket(connection, server_hostname="localhost") as client:
                assert client.recv(3) == b"hi\n"
        server.wait_log(rf"{ENDED} 0 ", 3)
        processes.await_that(lambda: not not_reaped(server.pid))
        assert silent.recv(1) == b""


def test_a_handshake_that_takes_too_long_leaves_nothing_open(site: Site) -> None:
    with site.serve("cat", options=("-K", "100")) as server:
        before = set(processes.descriptors(server.pid).values())
        for count in range(1, 4):
            with peers.connect(server) as silent:
                assert silent.recv(1) == b""
            server.wait_log(rf"{ENDED} 97 count 0/40\n.*status: 0/40$", count)
        processes.await_that(lambda: set(processes.descriptors(server.pid).values()) <= before)


def test_a_client_whose_engine_does_not_answer_is_cut_off_in_time(site: Site) -> None:
    with site.serve("cat", options=("-K", "1000")) as server, peers.connect(server) as silent:
        processes.await_that(lambda: len(processes.holders(server, silent)) == 1)
        stopped = processes.engine(server, silent)
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert silent.recv(1) == b""
            server.wait_log("the handshake took too long$")
        finally:
            os.kill(stopped, signal.SIGCONT)
        server.wait_log(rf"{ENDED} 97 count 0/40\n.*status: 0/40$")
