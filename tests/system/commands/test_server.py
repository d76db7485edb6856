"""s6-tcpserver and s6-tcpserverd as real servers: clients, limits, signals, log lines, and what programs find."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from s6tls.accessrules.compile import compile_tree
from tests.support.commands import run
from tests.support.servers import BIN, PATH, PATIENCE, greeted, read_all, server, tcpserver

FORMS = {
    "s6-tcpserver": ["s6-tcpserver", "-v", "127.0.0.1", "0"],
    "s6-tcpserverd": ["s6-tcpserver-socketbinder", "127.0.0.1", "0", "s6-tcpserverd", "-v2"],
}
both_forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


# Starting


def test_ready_means_a_line_with_the_port_and_end_of_file() -> None:
    words = [f"{BIN}/s6-tcpserver", "-1", "127.0.0.1", "0", "cat"]
    with subprocess.Popen(words, env={"PATH": PATH}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        with socket.create_connection(("127.0.0.1", int(said)), PATIENCE):
            process.terminate()
        assert re.fullmatch(rb"[0-9]+\n", said)
        assert process.wait(PATIENCE) == 0


def test_ready_means_that_signals_are_heard() -> None:
    for _ in range(5):
        with tcpserver("--", "cat") as s:
            s.signal(signal.SIGTERM)
            assert s.wait() == 0


def test_a_port_in_use_is_111() -> None:
    with tcpserver("--", "cat") as s:
        done = run(["s6-tcpserver", "127.0.0.1", str(s.port), "cat"])
        message = f"unable to bind to 127.0.0.1 port {s.port}: Address already in use"
        assert (done.returncode, done.stderr) == (111, f"s6-tcpserver: fatal: {message}\n")


@pytest.mark.parametrize(
    "binder",
    [["s6-tcpserver-socketbinder", "-b0", "127.0.0.1", "0"], ["s6-tcpserver-socketbinder", "-m", "-b0", "::1", "0"]],
)
def test_a_socket_that_does_not_listen_is_100(binder: list[str]) -> None:
    done = run([*binder, "s6-tcpserverd", "cat"])
    assert done.returncode == 100
    assert re.fullmatch(r"s6-tcpserverd: fatal: stdin is not a (listening|TCP) socket\n", done.stderr)


def test_no_socket_is_100() -> None:
    done = run(["s6-tcpserverd", "cat"])
    assert (done.returncode, done.stderr) == (100, "s6-tcpserverd: fatal: stdin is not a socket\n")


def test_socketbinder_gives_a_socket_on_stdin(tmp_path: Path) -> None:
    script = tmp_path / "look"
    script.write_text(
        "import os, socket; s = socket.socket(fileno=0); o = s.getsockopt\n"
        "print(s.type.name, os.get_blocking(0), o(socket.SOL_SOCKET, socket.SO_REUSEADDR),"
        " o(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), s.getsockname()[0])\n"
    )

    def look(*options: str, ip: str = "127.0.0.1") -> str:
        return run(["s6-tcpserver-socketbinder", *options, ip, "0", "python3", str(script)]).stdout

    assert look() == "SOCK_STREAM False 1 1 127.0.0.1\n"
    assert look("-D", "-B") == "SOCK_STREAM True 0 1 127.0.0.1\n"
    assert look("-m", "-b", "0", ip="::1") == "SOCK_DGRAM False 1 0 ::1\n"
    assert look("-b4294967295", "-m", "-M", "--block") == "SOCK_STREAM True 1 1 127.0.0.1\n"
    done = run(["s6-tcpserver-socketbinder", "127.0.0.1", "0", "nowhere"])
    message = "unable to exec nowhere: No such file or directory"
    assert (done.returncode, done.stderr) == (127, f"s6-tcpserver-socketbinder: fatal: {message}\n")


# What a program finds


@both_forms
def test_the_environment(form: list[str]) -> None:
    given = {"A": "1", "PROTO": "x", "TCPREMOTEIP": "y", "TCPREMOTEHOST": "kept"}
    with server([*form, "cat", "/proc/self/environ"], given) as s, s.connect() as client:
        block = dict(entry.split("=", 1) for entry in read_all(client).decode().split("\0")[:-1])
        assert block == {
            "PATH": PATH,
            "A": "1",
            "TCPREMOTEHOST": "kept",
            "PROTO": "TCP",
            "TCPLOCALIP": "127.0.0.1",
            "TCPLOCALPORT": str(s.port),
            "TCPREMOTEIP": "127.0.0.1",
            "TCPREMOTEPORT": str(client.getsockname()[1]),
            "TCPCONNNUM": "0",
        }


def test_ipv6() -> None:
    with tcpserver("-v", "--", "sh", "-c", "echo $TCPLOCALIP $TCPREMOTEIP", ip="::1") as s:
        assert s.exchange(host="::1") == b"::1 ::1\n"
        s.wait_log(rf"^s6-tcpserverd: info: starting - bound to ip ::1 port {s.port}$")
        s.wait_log(r"^s6-tcpserverd: info: accept ::1_\d+ pid \d+ count 1/40$")


@both_forms
def test_connnum_is_how_many_connections_the_address_has_already(form: list[str]) -> None:
    with server([*form, "sh", "-c", "echo $TCPCONNNUM; exec cat"]) as s, ExitStack() as stack:
        clients = [stack.enter_context(s.connect(source=source)) for source in ["127.0.0.1"] * 3 + ["127.0.0.2"]]
        assert [greeted(client) for client in clients] == [b"0\n", b"1\n", b"2\n", b"0\n"]
        clients[0].close()
        s.wait_log(r"end pid")
        with s.connect() as client:
            assert greeted(client) == b"2\n"


@both_forms
@pytest.mark.parametrize("which", ["-n", "-Sn"])
def test_descriptors_umask_directory_and_limits(form: list[str], which: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    limited = ["sh", "-c", f'ulimit {which} 77; exec "$@"', "sh", *form]
    prog = ["sh", "-c", "ls /proc/$$/fd; umask; pwd; ulimit -n; exit"]
    with server([*limited, *prog], umask=0o027, cwd=tmp_path, pass_fds=[reading, writing]) as s:
        assert s.exchange() == b"0\n1\n2\n0027\n" + os.fsencode(tmp_path) + b"\n77\n"
    os.close(reading)
    os.close(writing)


def test_a_closed_stdin_and_stdout_of_the_server_are_no_accident() -> None:
    with server(["sh", "-c", 'exec "$@" <&-', "sh", "s6-tcpserver", "127.0.0.1", "0", "cat"]) as s:
        assert s.exchange(b"x") == b"x"


def test_ids_are_taken_before_serving() -> None:
    ids = ["sh", "-c", "echo $(id -u) $(id -g) $(id -G) ${UID-none}"]
    env = {"UID": "1001", "GID": "1002", "GIDLIST": "7,8"}
    with tcpserver("-u", "1001", "-g", "1002", "-G", "7", "--", *ids) as s:
        assert s.exchange() == b"1001 1002 1002 7 none\n"
        with open(f"/proc/{s.pid}/status") as file:
            assert re.search(r"^Uid:\t1001\t1001\t1001\t1001$", file.read(), re.MULTILINE)
    with tcpserver("-u", "5", "-U", "--", *ids, env=env) as s:
        assert s.exchange() == b"1001 1002 1002 7 8 none\n"
    with tcpserver("-U", "-u", "5", "--", *ids, env=env) as s:
        assert s.exchange() == b"5 1002 1002 7 8 none\n"
    done = run(["s6-tcpserver", "-U", "127.0.0.1", "0", "true"])
    assert (done.returncode, done.stderr) == (100, "s6-applyuidgid: fatal: UID not set\n")


# Limits


@both_forms
def test_at_the_limit_clients_wait_in_the_backlog(form: list[str]) -> None:
    place = form.index("-v" if "-v" in form else "-v2")
    limited = [*form[: place + 1], "-c", "2", *form[place + 1 :]]
    hello = ["sh", "-c", "echo hello; exec cat"]
    with server([*limited, *hello]) as s, s.connect() as first, s.connect() as second, s.connect() as third:
        assert greeted(first) == greeted(second) == b"hello\n"
        third.sendall(b"data")
        third.shutdown(socket.SHUT_WR)
        first.close()
        assert read_all(third) == b"hello\ndata"
        port = third.getsockname()[1]
        s.wait_log(r"end pid", 2)
        assert s.log().index("end pid") < s.log().index(f"accept 127.0.0.1_{port} ")
        assert "3/2" not in s.log()


@pytest.mark.parametrize("verbosity", ["-q", "-Q", "-v"])
def test_at_the_limit_of_an_address_its_clients_are_rejected(verbosity: str) -> None:
    with tcpserver(verbosity, "-C", "1", "--", "sh", "-c", "echo hello; exec cat") as s, s.connect() as first:
        assert greeted(first) == b"hello\n"
        with s.connect() as second:
            assert read_all(second) == b""
            reject = f"s6-tcpserverd: info: reject 127.0.0.1_{second.getsockname()[1]} count 1/1"
        with s.connect(source="127.0.0.2") as other:
            assert greeted(other) == b"hello\n"
        if verbosity == "-q":
            assert s.log() == ""
        else:
            s.wait_log(rf"^{reject}$")
        first.sendall(b"still here\n")
        assert greeted(first) == b"still here\n"


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ([], ("40", "40")),
        (["-c0"], ("1", "1")),
        (["-C0"], ("40", "1")),
        (["-c5", "-C10"], ("5", "5")),
        (["-c99999", "-C99999"], ("16384", "16384")),
        (["--global-max-connections=7", "--local-max-connections", "3"], ("7", "3")),
    ],
)
def test_limits_are_as_near_as_can_be_to_what_is_asked_for(options: list[str], limits: tuple[str, str]) -> None:
    total, each = limits
    with tcpserver("-v", *options, "--", "true") as s:
        s.exchange()
        s.wait_log(rf"^s6-tcpserverd: info: status: 0/{total}$")
        s.wait_log(rf"^s6-tcpserverd: info: accept .* count 1/{each}$")


# One for all


def test_a_slow_client_does_not_delay_another() -> None:
    with tcpserver("--", "sh", "-c", "read x; echo $x") as s, s.connect() as silent:
        for i in range(5):
            assert s.exchange(b"%d\n" % i) == b"%d\n" % i
        silent.sendall(b"at last\n")
        assert read_all(silent) == b"at last\n"


def test_a_denied_client_costs_no_fork(tmp_path: Path) -> None:
    (tmp_path / "rules/ip4/127.0.0.0_8").mkdir(parents=True)
    (tmp_path / "rules/ip4/127.0.0.0_8/deny").touch()
    compile_tree(os.fsencode(tmp_path / "cdb"), os.fsencode(tmp_path / "rules"))
    with tcpserver("-v", "--", "s6-tcpserver-access", "-H", "-v2", "-x", str(tmp_path / "cdb"), "cat") as s:
        for _ in range(50):
            assert s.exchange(b"hello") == b""
        s.wait_log(rf"^s6-tcpserver-access: info: deny pid {s.pid} ip 127\.0\.0\.1 rule ip4/127\.0\.0\.0_8$", 50)
        s.wait_log(rf"^s6-tcpserverd: info: accept 127\.0\.0\.1_\d+ pid {s.pid} count 1/40$", 50)
        s.wait_log(rf"^s6-tcpserverd: info: end pid {s.pid} exitcode 1 count 0/40$", 50)
        with open(f"/proc/{s.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        assert fields[9] == "0"  # cminflt: page faults of children that have been waited for; none without children
        assert s.children() == []


def test_two_hundred_hasty_clients_lose_nothing() -> None:
    with tcpserver("-v", "-c", "1000", "-C", "1000", "--", "cat") as s:
        questions = [b"question %d" % i for i in range(200)]
        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(s.exchange, questions)) == questions
        s.wait_log(r"^s6-tcpserverd: info: end pid \d+ exitcode 0 count ", 200)
        s.wait_log(r"^s6-tcpserverd: info: status: 0/1000$", 2)


def test_clients_that_leave_at_once_are_counted_out() -> None:
    with tcpserver("-v", "-c", "3", "-C", "3", "--", "cat") as s:
        for _ in range(30):
            s.connect().close()
        assert s.exchange(b"x") == b"x"
        s.wait_log(r"status: \d/3$", 1 + 31 + 31)  # at the start, and with each beginning and end
        assert s.log().endswith("status: 0/3\n")


def test_the_server_outlives_its_logger() -> None:
    reading, writing = os.pipe()
    words = ["bash", "-c", f'exec "$@" 2>&{writing}', "bash", "s6-tcpserver", "-v", "127.0.0.1", "0", "cat"]
    with server(words, pass_fds=[writing]) as s:
        os.close(writing)
        os.close(reading)
        assert s.exchange(b"a") == s.exchange(b"a") == b"a"
