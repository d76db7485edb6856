"""s6-tlsserver: the chain that it writes, and how connections that are still in it fare."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from s6tls.cli.s6_tlsserver import SYNOPSIS, chain_words
from tests.support.certified import Certified
from tests.support.commands import said
from tests.support.servers import Server, server

BEFORE, AFTER = "proxy-server --before-tlsd", "proxy-server --after-tlsd"
ISOLATIONS = pytest.mark.parametrize("isolation", ["connection", "worker"])


def chain(*options: str) -> str:
    """Return the chain of a command line, programs by their names and without the ``--`` after each."""
    given = SYNOPSIS.read([word.encode() for word in (*options, "127.0.0.1", "0", "prog")])
    words = [word.decode() for word in chain_words(given)]
    return " ".join(word.rpartition("/")[2] for word in words if word != "--")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "s6-tcpserver-access -v1 s6-connlimit s6-tlsd prog"),
        ("-H", "s6-tlsd prog"),
        ("--no-dns", "s6-tlsd prog"),
        ("-HWRPd", "s6-tlsd prog"),
        ("-H -wrpD -WRPd", "s6-tlsd prog"),
        ("-H --dns", "s6-tcpserver-access -v1 -H --dns s6-connlimit s6-tlsd prog"),
        ("--dns -H", "s6-tlsd prog"),
        ("-He", "s6-tcpserver-access -v1 -H s6-connlimit s6-tlsd prog"),
        ("-HD", "s6-tcpserver-access -v1 -H -D s6-connlimit s6-tlsd prog"),
        ("-H -t 500", "s6-tcpserver-access -v1 -H -t 500 s6-connlimit s6-tlsd prog"),
        ("-H -l 0 -B hi", "s6-tcpserver-access -v1 -H -l 0 -B hi s6-connlimit s6-tlsd prog"),
        ("-v -i D", "s6-tcpserver-access -v2 -i D s6-connlimit s6-tlsd prog"),
        ("-q -x F", "s6-tcpserver-access -v0 -x F s6-connlimit s6-tlsd prog"),
        ("-H -S -J -y -K 9 -k 1 -Z", "s6-tlsd -S -J -y -K 9 -k 1 -Z prog"),
        ("-H --mandatory-sni", "s6-tlsd --mandatory-sni prog"),
        ("-H -u 5 -g 6 -G 7", "s6-tlsd s6-applyuidgid -u 5 -g 6 -G 7 prog"),
        ("-H -U", "s6-tlsd s6-applyuidgid -Uz prog"),
        ("-H -U -u 5", "s6-tlsd s6-applyuidgid -Uz prog"),
        ("-H -1 -c 50 -C 20 -b 9 -4 --isolation=worker", "s6-tlsd prog"),
        ("-H -L", f"{BEFORE} s6-tlsd {AFTER} prog"),
        ("-H --proxy -K 9", f"{BEFORE} -t 9 s6-tlsd -K 9 {AFTER} prog"),
        ("-L -x F", f"s6-tcpserver-access -v1 -x F s6-connlimit {BEFORE} s6-tlsd {AFTER} prog"),
        ("-L -x F --rules-on=proxy", f"s6-tcpserver-access -v1 -x F s6-connlimit {BEFORE} s6-tlsd {AFTER} prog"),
        ("-L -x F --rules-on=client", f"{BEFORE} s6-tcpserver-access -v1 -x F s6-connlimit s6-tlsd {AFTER} prog"),
        ("-H -L --trusted-proxies=::1", f"{BEFORE} --trusted-proxies ::1 s6-tlsd {AFTER} prog"),
        ("-H -L -U", f"{BEFORE} s6-tlsd s6-applyuidgid -Uz {AFTER} prog"),
    ],
)
def test_the_chain(options: str, expected: str) -> None:
    assert chain(*options.split()) == expected


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-L", "--rules-on=nobody"], "invalid value for --rules-on: nobody (expected proxy, client)"),
        (["--rules-on=client"], "--rules-on and --trusted-proxies are about the PROXY header that -L reads"),
        (["--trusted-proxies=::1"], "--rules-on and --trusted-proxies are about the PROXY header that -L reads"),
        (["-L", "--trusted-proxies=::1,"], "invalid list of networks: ::1,"),
        (["-L", "--trusted-proxies=10.0.0.1/8"], "invalid list of networks: 10.0.0.1/8"),
        (["-L", "-K", "soon"], "invalid value for -K: soon"),
    ],
)
def test_options_about_proxies_that_are_wrong_usage(options: list[str], reason: str) -> None:
    code, stderr = said(["s6-tlsserver", *options, "127.0.0.1", "0", "cat"])
    assert code == 100
    assert f"usage: {reason}" in stderr


def tlsserver(
    certified: Certified, *words: str, env: dict[str, str] | None = None, **popen: Any
) -> AbstractContextManager[Server]:
    """Start an s6-tlsserver: its options, then ``--``, then a program."""
    place = words.index("--")
    command = ["s6-tlsserver", "-H", *words[:place], "127.0.0.1", "0", *words[place + 1 :]]
    return server(command, {**certified.env, **(env or {})}, **popen)


@contextlib.contextmanager
def secured(plain: socket.socket, certified: Certified) -> Iterator[ssl.SSLSocket]:
    with plain, certified.client.wrap_socket(plain, server_hostname="localhost") as client:
        yield client


def answer(s: Server, certified: Certified, source: str = "") -> bytes:
    """Connect and return the first of what the program says."""
    with secured(s.connect(source=source), certified) as client:
        return client.recv(1000)


def in_the_chain(s: Server) -> socket.socket:
    """Return a connection that has gone as far as the handshake, and waits there: the banner tells."""
    client = s.connect()
    assert client.recv(6) == b"hello\n"
    return client


@ISOLATIONS
def test_a_handshake_that_lasts_delays_nobody(isolation: str, certified: Certified) -> None:
    with tlsserver(certified, f"--isolation={isolation}", "--", "echo", "x") as s, ExitStack() as stack:
        for _ in range(5):
            silent = stack.enter_context(s.connect())
            silent.sendall(b"\x16\x03\x01")
            assert answer(s, certified) == b"x\n"


@ISOLATIONS
def test_a_handshake_outlives_the_server_like_any_connection(isolation: str, certified: Certified) -> None:
    with tlsserver(certified, "-v", "-B", "hello\n", f"--isolation={isolation}", "--", "sh", "-c", "echo $$; cat") as s:
        waiting = [in_the_chain(s) for _ in range(2)]
        s.signal(signal.SIGTERM)
        assert s.wait() == 0
        for plain in waiting:
            with secured(plain, certified) as client:
                pid = int(client.recv(100))
                client.sendall(b"data")
                assert client.recv(100) == b"data"
                s.wait_log(rf"^s6-tcpserverd: info: accept 127\.0\.0\.1_\d+ pid {pid} ")
        with pytest.raises(ConnectionRefusedError):
            s.connect()


def test_a_rule_limits_the_connections_of_each_of_its_clients(certified: Certified, tmp_path: Path) -> None:
    env = tmp_path / "ip4/127.0.0.0_8/env"
    env.mkdir(parents=True)
    (env.parent / "allow").touch()
    (env / "TCPCONNMAX").write_text("1\n")
    with tlsserver(certified, "-v", "-i", str(tmp_path), "--", "echo", "x") as s, s.connect() as waiting:
        assert answer(s, certified, source="127.0.0.2") == b"x\n"
        assert s.exchange() == b""
        s.wait_log("^s6-connlimit: info: number of connections from this client limited to 1$")
        with secured(waiting, certified) as client:
            assert client.recv(1000) == b"x\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT])
def test_the_other_signals_end_a_handshake(number: signal.Signals, certified: Certified) -> None:
    with tlsserver(certified, "-v", "-B", "hello\n", "--", "cat") as s, in_the_chain(s) as waiting:
        s.signal(number)
        code = 9 if number == signal.SIGABRT else 15
        s.wait_log(rf"^s6-tcpserverd: info: end pid {s.pid} signal {code} count 0/40$")
        with contextlib.suppress(ssl.SSLError, ConnectionError), secured(waiting, certified) as client:
            assert client.recv(1) == b""
        if number != signal.SIGHUP:
            assert s.wait() == 0


def test_a_failed_handshake_is_97_and_leaves_its_lines(certified: Certified) -> None:
    with tlsserver(certified, "-v", "-e", "--", "cat") as s:
        s.exchange(b"GET / HTTP/1.0\r\n\r\n")
        s.wait_log(r"^s6-tlsd-io: info: unable to complete the handshake with 127\.0\.0\.1_\d+: ")
        s.wait_log(rf"^s6-tcpserverd: info: end pid {s.pid} exitcode 97 count 0/40$")
        s.wait_log(rf"^s6-tcpserver-access: info: allow pid {s.pid} ip 127\.0\.0\.1 rule none$")


def allow_everybody(rules: Path) -> None:
    (rules / "ip4/0.0.0.0_0").mkdir(parents=True)
    (rules / "ip4/0.0.0.0_0/allow").touch()


def test_programs_run_under_the_ids_of_the_command_line_or_the_environment(
    certified: Certified, tmp_path: Path
) -> None:
    allow_everybody(tmp_path)
    ids = ["--", "sh", "-c", "echo $(id -u) $(id -g) $(id -G) ${UID-none}"]
    with tlsserver(certified, "-u", "1001", "-g", "1002", "-G", "7", *ids) as s:
        assert answer(s, certified) == b"1001 1002 1002 7 none\n"
    with tlsserver(certified, "-U", "-u", "5", *ids, env={"UID": "1001", "GID": "1002", "GIDLIST": ""}) as s:
        assert answer(s, certified) == b"1001 1002 1002 none\n"
    with tlsserver(certified, "-v", "-U", "-i", str(tmp_path), *ids) as s:
        s.wait_log(r"^s6-applyuidgid: warning: UID not set: only clients whose rule sets it are served$")
        assert answer(s, certified) == b""
        s.wait_log(r"^s6-applyuidgid: fatal: UID not set$")
        s.wait_log(r"^s6-tcpserverd: info: end pid \d+ exitcode 100 ")


@pytest.mark.parametrize(("verbosity", "warned"), [("-q", False), ("-Q", True)])
def test_what_a_rule_may_set_is_a_warning_at_the_start(verbosity: str, warned: bool, tmp_path: Path) -> None:
    allow_everybody(tmp_path)
    words = ["s6-tlsserver", "-H", verbosity, "-i", str(tmp_path), "127.0.0.1", "0", "cat"]
    with server(words, {"KEYFILE": "/nowhere"}) as s:
        assert s.exchange() == b""
        s.wait_log(r"^s6-tlsd-io: fatal: CERTFILE not set$")
        warning = "s6-tlsd-io: warning: CERTFILE not set: only clients whose rule sets it are served\n"
        assert (warning in s.log()) is warned


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (["-L", "--rules-on=client"], True),
        (["-q", "-L", "--rules-on=client"], False),
        (["-L", "--rules-on=client", "--trusted-proxies=127.0.0.1"], False),
        (["-L"], False),
    ],
)
def test_a_warning_that_clients_can_claim_any_address(options: list[str], warned: bool, certified: Certified) -> None:
    with tlsserver(certified, *options, "--", "cat") as s:
        s.exchange()
        warning = "s6-tlsserver: warning: --rules-on=client without --trusted-proxies: "
        if warned:
            s.wait_log(f"^{warning}")
        assert (warning in s.log()) is warned


def test_when_descriptors_are_few_clients_wait(certified: Certified) -> None:
    limited = ["sh", "-c", 'ulimit -n 160; exec "$@"', "sh", "s6-tlsserver", "-H", "-v", "-c", "1000", "-C", "1000"]
    lowered = "limit -c lowered from 1000 to 16: only 160 descriptors may be open (RLIMIT_NOFILE)"
    with server([*limited, "127.0.0.1", "0", "echo", "x"], certified.env) as s:
        assert s.log().startswith(f"s6-tcpserverd: warning: {lowered}\n")
        with ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(s.connect())
            s.wait_log("^s6-tcpserverd: warning: limit -c reached: 16 connections, 16 of them in a handshake$")
        s.wait_log(r"^s6-tcpserverd: info: end pid \d+ exitcode ", 60)
        s.wait_log(r"^s6-tcpserverd: info: limit -c no longer reached$")
        assert answer(s, certified) == b"x\n"
        assert "Too many open files" not in s.log()


def test_so_they_do_when_a_user_may_have_few_under_way(certified: Certified) -> None:
    """What is in sockets counts, too, for whoever lacks root's rights: none is refused for it."""
    without_rights = [
        "setpriv",
        "--bounding-set=-sys_resource,-sys_admin",
        "sh",
        "-c",
        'ulimit -n 400; exec "$@"',
        "sh",
    ]
    words = [*without_rights, "s6-tlsserver", "-H", "-v", "-c", "1000", "-C", "1000", "127.0.0.1", "0", "echo", "x"]
    with server(words, certified.env) as s:
        assert "limit -c lowered from 1000 to 68:" in s.log()
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(s.connect())
            s.wait_log("limit -c reached: 68 connections, 68 of them in a handshake$")
        s.wait_log(r"end pid \d+ exitcode 97", 100)
        assert answer(s, certified) == b"x\n"
        assert "unable to reach" not in s.log()


@pytest.mark.parametrize(("isolation", "files", "clients"), [("connection", 400, 136), ("worker", 1000, 174)])
def test_the_limit_that_descriptors_are_enough_for_can_be_reached(
    certified: Certified, isolation: str, files: int, clients: int
) -> None:
    """One after the other: a single worker takes all of them, or nearly."""
    limited = [
        "sh",
        "-c",
        f'ulimit -n {files}; exec "$@"',
        "sh",
        "s6-tlsserver",
        "-H",
        "-v",
        "-c",
        "1000",
        "-C",
        "1000",
    ]
    with server([*limited, f"--isolation={isolation}", "127.0.0.1", "0", "echo", "x"], certified.env) as s:
        with ExitStack() as stack:
            for number in range(1, clients + 1):
                stack.enter_context(s.connect())
                s.wait_log(rf"status: {number}/{clients}$")
            stack.enter_context(s.connect())
            s.wait_log(f"limit -c reached: {clients} connections, {clients} of them in a handshake$")
        s.wait_log(r"end pid \d+ exitcode 97", clients)
        assert answer(s, certified) == b"x\n"
        assert "open files" not in s.log().replace("descriptors may be open", "")


@pytest.mark.parametrize("isolation", ["connection", "worker"])
def test_more_clients_than_the_soft_limit_has_descriptors_for(certified: Certified, isolation: str) -> None:
    limited = ["sh", "-c", 'ulimit -Sn 60; exec "$@"', "sh", "s6-tlsserver", "-H", "-v", "-c", "100", "-C", "100"]
    prog = ["sh", "-c", "ulimit -Sn"]
    with server([*limited, f"--isolation={isolation}", "127.0.0.1", "0", *prog], certified.env) as s:
        with ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(s.connect())
            s.wait_log("status: 40/100$")
            assert answer(s, certified) == b"60\n"
        assert "warning" not in s.log()
