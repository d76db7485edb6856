"""What s6-tcpserver and s6-tcpserverd say of their clients, and how they end: log lines, signals, draining."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import greeted, read_all, tcpserver

# Log lines


def test_verbosity_2_tells_of_every_client() -> None:
    with tcpserver("-v", "--", "sh", "-c", "read code; exit $code") as s:
        with s.connect() as client:
            port = client.getsockname()[1]
            client.sendall(b"3\n")
            assert read_all(client) == b""
        pid = s.wait_log(r"end pid (\d+)")[1]
        s.signal(signal.SIGTERM)
        assert s.wait() == 0
        s.wait_log("exiting")
        assert [line.removeprefix("s6-tcpserverd: info: ") for line in s.log().splitlines()] == [
            f"starting - bound to ip 127.0.0.1 port {s.port}",
            "status: 0/40",
            f"accept 127.0.0.1_{port} pid {pid} count 1/40",
            "status: 1/40",
            f"end pid {pid} exitcode 3 count 0/40",
            "status: 0/40",
            "received SIGTERM, quitting",
            "exiting",
        ]


@pytest.mark.parametrize("verbosity", ["-q", "-Q"])
def test_less_verbosity_does_not(verbosity: str) -> None:
    with tcpserver(verbosity, "--", "cat") as s:
        assert s.exchange(b"x") == b"x"
        for number in (signal.SIGHUP, signal.SIGTERM):
            s.signal(number)
        assert s.wait() == 0
        assert s.log() == ""


def test_the_pid_is_the_programs_and_the_end_its_own() -> None:
    with tcpserver("-v", "--", "sh", "-c", "echo $$; read end; kill -$end $$") as s, s.connect() as client:
        pid = int(greeted(client))
        s.wait_log(rf"^s6-tcpserverd: info: accept 127\.0\.0\.1_\d+ pid {pid} count 1/40$")
        assert s.children() == [pid]
        client.sendall(b"9\n")
        s.wait_log(rf"^s6-tcpserverd: info: end pid {pid} signal 9 count 0/40$")


@pytest.fixture
def prog() -> Iterator[Path]:
    """A program that can be started, by everybody."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        made = Path(place) / "prog"
        made.symlink_to("/bin/cat")
        yield made


def spoil(prog: Path, place: str) -> None:
    """Let the name of a program lead elsewhere."""
    prog.unlink()
    prog.symlink_to(place)


@pytest.mark.parametrize(
    ("place", "reason"), [("nowhere", "No such file or directory"), ("/etc/passwd", "Permission denied")]
)
def test_a_program_that_cannot_be_started_any_more_is_a_warning_and_the_server_goes_on(
    place: str, reason: str, prog: Path
) -> None:
    for verbosity in ("-Q", "-v"):
        with tcpserver(verbosity, "-c1", "--", str(prog)) as s:
            spoil(prog, place)
            assert s.exchange() == s.exchange() == b""
            s.wait_log(rf"^s6-tcpserverd: warning: unable to spawn {prog}: {reason}$", 2)
            assert "accept" not in s.log() and "end" not in s.log()
        spoil(prog, "/bin/cat")
    with tcpserver("-q", "--", str(prog)) as s:
        spoil(prog, place)
        assert s.exchange() == b""
        assert s.log() == ""


@pytest.mark.parametrize(("place", "code"), [("nowhere", 127), ("/etc/passwd", 126)])
def test_after_a_link_it_is_the_links_end(place: str, code: int, prog: Path) -> None:
    with tcpserver("-v", "--", "s6-applyuidgid", str(prog)) as s:
        spoil(prog, place)
        assert s.exchange() == b""
        s.wait_log(rf"^s6-applyuidgid: fatal: unable to exec {prog}: ")
        s.wait_log(rf"^s6-tcpserverd: info: end pid \d+ exitcode {code} count 0/40$")
    spoil(prog, "/bin/cat")
    with tcpserver("-v", "--", "s6-applyuidgid", "-u", "1001", str(prog)) as s:
        spoil(prog, place)
        assert s.exchange() == b""
        s.wait_log(rf"^s6-tcpserverd: info: end pid \d+ exitcode {code} count 0/40$")


# Signals


def test_sigterm_exits_and_connections_live_on() -> None:
    with tcpserver("--", "cat") as s, s.connect() as client:
        client.sendall(b"before")
        assert client.recv(100) == b"before"
        s.signal(signal.SIGTERM)
        assert s.wait() == 0
        client.sendall(b"after")
        assert client.recv(100) == b"after"
        with pytest.raises(ConnectionRefusedError):
            s.connect()


def test_sighup_terminates_programs_even_stopped_ones_and_the_server_goes_on() -> None:
    with tcpserver("-v", "--", "sh", "-c", "echo $$; exec cat") as s, s.connect() as running, s.connect() as stopped:
        pids = [int(greeted(client)) for client in (running, stopped)]
        os.kill(pids[1], signal.SIGSTOP)
        s.signal(signal.SIGHUP)
        assert read_all(running) == read_all(stopped) == b""
        s.wait_log(r"^s6-tcpserverd: info: received SIGHUP, sending SIGTERM and SIGCONT to all connections$")
        for pid in pids:
            s.wait_log(rf"end pid {pid} signal 15 ")
        with s.connect() as client:
            assert greeted(client)


@pytest.mark.parametrize(
    ("number", "sent", "end"), [(signal.SIGQUIT, "SIGTERM and SIGCONT", b"bye\n"), (signal.SIGABRT, "SIGKILL", b"")]
)
def test_sigquit_and_sigabrt_end_programs_and_exit_0(number: signal.Signals, sent: str, end: bytes) -> None:
    prog = 'trap "echo bye; exit" TERM; echo hello; while read x; do :; done'
    with tcpserver("-v", "--", "sh", "-c", prog) as s, s.connect() as client:
        assert greeted(client) == b"hello\n"
        s.signal(number)
        assert s.wait() == 0
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == end
        s.wait_log(rf"received {number.name}, sending {sent} to all connections and quitting\n.*exiting")


# Draining


def test_with_drain_sigterm_waits_for_the_connections_there_are() -> None:
    with tcpserver("-v", "--drain=60000", "--", "cat") as s, s.connect() as first, s.connect() as second:
        for client in (first, second):
            client.sendall(b"before")
            assert client.recv(100) == b"before"
        s.signal(signal.SIGTERM)
        s.wait_log("^s6-tcpserverd: info: received SIGTERM, quitting$")
        with pytest.raises(ConnectionRefusedError):
            s.connect()
        for client in (first, second):
            client.sendall(b"after")
            assert client.recv(100) == b"after"
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
        assert s.wait() == 0
        s.wait_log("^s6-tcpserverd: info: status: 0/40\ns6-tcpserverd: info: exiting$")


def test_the_last_connection_to_get_its_program_is_waited_for_too() -> None:
    chain = ("s6-tcpserver-access", "-H", "-B", "hello\n", "proxy-server", "cat")
    with tcpserver("-v", "--drain=60000", "--", *chain) as s, s.connect() as client:
        assert client.recv(6) == b"hello\n"
        s.signal(signal.SIGTERM)
        s.wait_log("received SIGTERM, quitting$")
        client.sendall(b"PROXY UNKNOWN\r\nafter")
        assert client.recv(100) == b"after"
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
        assert s.wait() == 0
        s.wait_log("^s6-tcpserverd: info: end pid .*\ns6-tcpserverd: info: status: 0/40\ns6-tcpserverd: info: exiting$")


def test_without_connections_there_is_nothing_to_wait_for() -> None:
    with tcpserver("--drain=60000", "--", "cat") as s:
        assert s.exchange(b"data") == b"data"
        s.signal(signal.SIGTERM)
        assert s.wait() == 0


def test_when_the_time_is_over_programs_are_terminated() -> None:
    with tcpserver("-v", "--drain=50", "--", "cat") as s, s.connect() as client:
        client.sendall(b"data")
        assert client.recv(100) == b"data"
        s.signal(signal.SIGTERM)
        assert read_all(client) == b""
        assert s.wait() == 0
        s.wait_log("^s6-tcpserverd: info: out of time, sending SIGTERM and SIGCONT to all connections and quitting$")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_ends_the_waiting(number: signal.Signals) -> None:
    with tcpserver("-v", "--drain=60000", "--", "cat") as s, s.connect() as client:
        client.sendall(b"data")
        assert client.recv(100) == b"data"
        s.signal(signal.SIGTERM)
        s.wait_log("received SIGTERM, quitting$")
        s.signal(number)
        assert s.wait() == 0
