"""The chain's commands, each on its own: alone, under socat, under ucspi-tcp's tcpserver and under s6-ipcserver."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from s6tls.accessrules.compile import compile_tree
from tests.support.certified import Certified
from tests.support.commands import UCSPI, run, said
from tests.support.servers import BIN, PATH, PATIENCE, Log, read_all
from tests.support.superservers import Connect, ipcserver, socat, tcpserver

Superserver = Callable[..., AbstractContextManager[tuple[Connect, Log]]]
under_anybody = pytest.mark.parametrize("superserver", [tcpserver, socat], ids=["tcpserver", "socat"])


def exchange(connect: Connect, data: bytes = b"") -> bytes:
    with connect() as client:
        with contextlib.suppress(OSError):  # a server that has refused may be gone already
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        return read_all(client)


@contextlib.contextmanager
def tls(connect: Connect, certified: Certified) -> Iterator[ssl.SSLSocket]:
    """Connect by TLS."""
    with connect() as plain, certified.client.wrap_socket(plain, server_hostname="localhost") as client:
        yield client


def rules(place: Path, text: dict[str, str]) -> str:
    """Write a rule set, file by file; return the path of its cdb."""
    for name, contents in text.items():
        path = place / "rules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents)
    compile_tree(os.fsencode(place / "rules.cdb"), os.fsencode(place / "rules"))
    return str(place / "rules.cdb")


# s6-tcpserver-access


@under_anybody
def test_access_lets_pass_and_changes_the_environment(superserver: Superserver, tmp_path: Path) -> None:
    cdb = rules(tmp_path, {"ip4/127.0.0.1_32/allow": "", "ip4/127.0.0.1_32/env/GREETING": "hello"})
    prog = ["sh", "-c", 'echo "$GREETING ${TCPREMOTEHOST-none} $TCPLOCALHOST"; cat']
    with superserver(["s6-tcpserver-access", "-H", "-l", "here", "-x", cdb, *prog]) as (connect, log):
        assert exchange(connect, b"data") == b"hello none here\ndata"
        log.wait_for(r"^s6-tcpserver-access: info: allow pid \d+ ip 127\.0\.0\.1 rule ip4/127\.0\.0\.1_32$")


@under_anybody
def test_access_denies(superserver: Superserver, tmp_path: Path) -> None:
    cdb = rules(tmp_path, {"ip4/127.0.0.0_8/deny": "", "ip4/0.0.0.0_0/allow": ""})
    with superserver(["s6-tcpserver-access", "-H", "-v2", "-B", "who are you?\n", "-x", cdb, "cat"]) as (connect, log):
        assert exchange(connect) == b"who are you?\n"
        log.wait_for(r"^s6-tcpserver-access: info: deny pid \d+ ip 127\.0\.0\.1 rule ip4/127\.0\.0\.0_8$")


@under_anybody
def test_an_exec_runs_instead(superserver: Superserver, tmp_path: Path) -> None:
    cdb = rules(tmp_path, {"ip4/127.0.0.1_32/allow": "", "ip4/127.0.0.1_32/exec": "echo go away"})
    with superserver(["s6-tcpserver-access", "-H", "-x", cdb, "s6-tlsd", "cat"]) as (connect, _):
        assert exchange(connect) == b"go away\n"


def test_a_rule_set_as_a_directory(tmp_path: Path) -> None:
    rules(tmp_path, {"ip4/192.0.2.0_24/allow": "", "ip4/192.0.2.7_32/deny": ""})
    words = [
        "s6-tcpserver-access",
        "-H",
        "-v0",
        "-x",
        "a cdb that does not count",
        "-i",
        str(tmp_path / "rules"),
        "true",
    ]
    assert said(words, UCSPI) == (1, "")
    assert said(words, {**UCSPI, "TCPREMOTEIP": "192.0.2.8"}) == (0, "")
    assert said(words, {**UCSPI, "TCPREMOTEIP": "198.51.100.1"}) == (1, "")


def test_a_broken_rule_set_is_111_and_never_an_allow(tmp_path: Path) -> None:
    cdb = rules(tmp_path, {"ip4/0.0.0.0_0/allow": ""})
    assert said(["s6-tcpserver-access", "-H", "-v0", "-x", cdb, "true"], UCSPI) == (0, "")
    os.truncate(cdb, 100)
    prefix = f"s6-tcpserver-access: fatal: unable to check rules in {cdb}: "
    assert said(["s6-tcpserver-access", "-H", "-x", cdb, "true"], UCSPI) == (
        111,
        prefix + "not a cdb file: too short\n",
    )
    os.unlink(cdb)
    assert said(["s6-tcpserver-access", "-H", "-x", cdb, "true"], UCSPI) == (
        111,
        prefix + "No such file or directory\n",
    )
    code, stderr = said(["s6-tcpserver-access", "-H", "-i", "/etc/passwd", "true"], UCSPI)
    assert (code, stderr.split(": ", 2)[2]) == (111, "unable to check rules in /etc/passwd: Not a directory\n")


def test_without_execlineb_an_exec_refuses(tmp_path: Path) -> None:
    cdb = rules(tmp_path, {"ip4/0.0.0.0_0/allow": "", "ip4/0.0.0.0_0/exec": "echo x"})
    message = "s6-tcpserver-access: fatal: unable to exec execlineb: No such file or directory\n"
    words = ["s6-tcpserver-access", "-H", "-v0", "-x", cdb, "/bin/echo", "in"]
    assert said(words, {**UCSPI, "PATH": "/nowhere"}) == (127, message)


def test_an_exec_that_no_program_can_be_given_refuses(tmp_path: Path) -> None:
    cdb = rules(tmp_path, {"ip4/0.0.0.0_0/allow": "", "ip4/0.0.0.0_0/exec": "echo x\0y"})
    message = "s6-tcpserver-access: fatal: unable to exec execlineb: embedded null byte\n"
    assert said(["s6-tcpserver-access", "-H", "-v0", "-x", cdb, "echo", "in"], UCSPI) == (111, message)


def test_without_a_ucspi_server_access_is_100() -> None:
    assert said(["s6-tcpserver-access", "-H", "true"]) == (100, "s6-tcpserver-access: fatal: PROTO not set\n")
    env = {**UCSPI, "TCPREMOTEPORT": "x"}
    assert said(["s6-tcpserver-access", "-H", "true"], env) == (
        100,
        "s6-tcpserver-access: fatal: invalid $TCPREMOTEPORT\n",
    )


# s6-connlimit


def test_connlimit_under_ipcserver(tmp_path: Path) -> None:
    # s6-ipcserver counts the connection itself too: the first has number 1.
    with ipcserver(tmp_path, ["s6-connlimit", "cat"], {"IPCCONNMAX": "2"}) as (connect, log), connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert exchange(connect) == b""
        log.wait_for(r"^s6-connlimit: fatal: number of connections from this client limited to 2$")


def test_connlimit_alone() -> None:
    env = {"PROTO": "TCP", "TCPCONNNUM": "3", "TCPCONNMAX": "4"}
    assert said(["s6-connlimit", "true"], env) == (0, "")
    message = "s6-connlimit: fatal: number of connections from this client limited to 3\n"
    assert said(["s6-connlimit", "true"], {**env, "TCPCONNMAX": "3"}) == (1, message)


# s6-applyuidgid


def test_applyuidgid_under_ipcserver(tmp_path: Path) -> None:
    with ipcserver(tmp_path, ["s6-applyuidgid", "-u", "1001", "-g", "1002", "-G", "7,8", "id", "-G"]) as (connect, _):
        assert exchange(connect) == b"1002 7 8\n"


@under_anybody
def test_applyuidgid_under_tcp(superserver: Superserver) -> None:
    env = {"UID": "1001", "GID": "1002", "GIDLIST": ""}
    with superserver(["s6-applyuidgid", "-Uz", "sh", "-c", "id -u; id -G; env | grep ID="], env) as (connect, _):
        assert exchange(connect).split()[:2] == [b"1001", b"1002"]


def ids(*options: str, **env: str) -> str:
    done = run(["s6-applyuidgid", *options, "sh", "-c", "echo $(id -u) $(id -g) $(id -G) ${UID-none}"], env)
    return done.stdout.strip() or done.stderr.strip()


def test_options_of_applyuidgid() -> None:
    env = {"UID": "1001", "GID": "1002", "GIDLIST": "7,8"}
    assert ids("-u", "5", "-g", "6") == "5 6 6 none"
    assert ids("-u", "5", "-g", "6", "-G", "7") == "5 6 6 7 none"
    assert ids("-U", **env) == "1001 1002 1002 7 8 1001"
    assert ids("-Uz", **env) == "1001 1002 1002 7 8 none"
    assert ids("-z", **env) == "0 0 0 none"
    assert ids("-U", "-u", "5", **env) == "5 1002 1002 7 8 1001"
    assert ids("-u", "5", "-U", **env) == "1001 1002 1002 7 8 1001"
    assert ids("-U", UID="5", GID="6") == "s6-applyuidgid: fatal: GIDLIST not set"
    assert ids("-U", UID="5", GID="6", GIDLIST="x") == "s6-applyuidgid: fatal: invalid $GIDLIST"


# Every link


@pytest.mark.parametrize(
    "words", [["s6-applyuidgid"], ["s6-connlimit"], ["s6-tcpserver-access", "-H", "-v0"]], ids=lambda w: w[0]
)
def test_a_link_hands_on_descriptors_environment_umask_and_directory(words: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    script = f'umask; pwd; echo "$STRANGE"; echo ready >&{writing}; cat'
    env = {"PATH": PATH, **UCSPI, "STRANGE": "\udcff\udcfe= \n"}
    process = subprocess.Popen(
        [*words, "bash", "-c", script],
        executable=f"{BIN}/{words[0]}",
        env=env,
        umask=0o027,
        cwd=tmp_path,
        pass_fds=[writing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    os.close(writing)
    output, _ = process.communicate(b"input", PATIENCE)
    assert output == b"0027\n" + os.fsencode(tmp_path) + b"\n\xff\xfe= \n\ninput"
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "ready\n"


@pytest.mark.parametrize(
    "words", [["s6-applyuidgid"], ["s6-connlimit"], ["s6-tcpserver-access", "-H", "-v0"]], ids=lambda w: w[0]
)
def test_closed_standard_descriptors_are_no_accident(words: list[str]) -> None:
    script = 'exec "$@" <&- 2>&-'
    prog = [f"{BIN}/{words[0]}", *words[1:], "readlink", "/proc/self/fd/0", "/proc/self/fd/2"]
    done = subprocess.run(["sh", "-c", script, "sh", *prog], env={"PATH": PATH, **UCSPI}, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b"/dev/null\n/dev/null\n")


# s6-tlsd and s6-tlsd-io


@under_anybody
def test_tlsd(superserver: Superserver, certified: Certified) -> None:
    prog = ["sh", "-c", 'echo "$SSL_PROTOCOL ${KEYFILE-gone}"; cat']
    with superserver(["s6-tlsd", *prog], certified.env) as (connect, _), tls(connect, certified) as client:
        assert client.recv(100) == b"TLSv1.3 gone\n"
        client.sendall(b"data")
        assert client.recv(100) == b"data"


def test_tlsd_under_ipcserver_keeps_the_variables_with_z(tmp_path: Path, certified: Certified) -> None:
    with (
        ipcserver(tmp_path, ["s6-tlsd", "-S", "-Z", "sh", "-c", "echo $KEYFILE"], certified.env) as (connect, _),
        tls(connect, certified) as client,
    ):
        assert client.recv(1000) == f"{certified.key}\n".encode()
        assert client.recv(1) == b""


@under_anybody
def test_the_whole_chain_of_commands(superserver: Superserver, certified: Certified, tmp_path: Path) -> None:
    env = {
        f"ip4/127.0.0.1_32/env/{name}": value for name, value in {**certified.env, "UID": "1001", "GID": "1002"}.items()
    }
    cdb = rules(tmp_path, {"ip4/127.0.0.1_32/allow": "", **env})
    chain = ["s6-tcpserver-access", "-H", "-x", cdb, "s6-tlsd", "s6-applyuidgid", "-U", "-G", ""]
    with (
        superserver([*chain, "sh", "-c", "echo $(id -u) $(id -G) $SSL_PROTOCOL"], {"GIDLIST": ""}) as (connect, _),
        tls(connect, certified) as client,
    ):
        assert client.recv(100) == b"1001 1002 TLSv1.3\n"


def test_tlsd_refuses_what_is_not_tls(certified: Certified) -> None:
    done = run(["s6-tlsd", "echo", "in"], certified.env, given="GET / HTTP/1.0\r\n\r\n")
    assert done.returncode == 97
    assert "in\n" not in done.stdout


class Engine:
    """An s6-tlsd-io between a network and an application, both of which are the test."""

    def __init__(self, env: dict[str, str], *options: str) -> None:
        self.network, theirs = socket.socketpair()
        self.network.settimeout(PATIENCE)
        from_application, self.to_engine = os.pipe()
        self.from_engine, to_application = os.pipe()
        self.notified, notify = os.pipe()
        given = (from_application, to_application, notify)
        self.process = subprocess.Popen(
            ["s6-tlsd-io", *options, "-d", str(notify), str(from_application), str(to_application)],
            executable=f"{BIN}/s6-tlsd-io",
            env={"PATH": PATH, **env},
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            pass_fds=given,
        )
        theirs.close()
        for fd in given:
            os.close(fd)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.network.close()
        for fd in (self.to_engine, self.from_engine, self.notified):
            os.close(fd)
        self.process.kill()
        self.process.communicate()

    def hang_up(self) -> None:
        """Let the engine see the application's end of file."""
        os.close(self.to_engine)
        self.to_engine = os.open("/dev/null", os.O_RDONLY)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said."""
        _, stderr = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, stderr.decode()


def told(fd: int) -> dict[bytes, bytes]:
    """Read a notification to its end: variables, each with a NUL, and another NUL."""
    data = b""
    while chunk := os.read(fd, 4096):
        data += chunk
    assert data.endswith(b"\0\0")
    pairs = [entry.partition(b"=") for entry in data[:-2].split(b"\0")]
    return {name: value for name, _, value in pairs}


def test_tlsd_io(certified: Certified) -> None:
    with Engine(certified.env, "-S") as engine:
        with certified.client.wrap_socket(engine.network, server_hostname="localhost") as client:
            variables = told(engine.notified)
            assert variables[b"SSL_PROTOCOL"] == b"TLSv1.3"
            assert variables[b"SSL_TLS_SNI_SERVERNAME"] == b"localhost"
            client.sendall(b"question")
            assert os.read(engine.from_engine, 100) == b"question"
            os.write(engine.to_engine, b"answer")
            assert client.recv(100) == b"answer"
            engine.hang_up()
            assert client.recv(1) == b""
            client.unwrap()
        assert os.read(engine.from_engine, 100) == b""
        assert engine.end() == (0, "")


def test_tlsd_io_fails_with_97_before_and_98_after_the_handshake(certified: Certified) -> None:
    with Engine(certified.env) as engine:
        engine.network.sendall(b"GET / HTTP/1.0\r\n\r\n")
        engine.network.shutdown(socket.SHUT_WR)
        code, stderr = engine.end()
        assert (code, os.read(engine.notified, 1)) == (97, b"")
        assert stderr.startswith("s6-tlsd-io: fatal: unable to complete the handshake: ")
    with Engine(certified.env, "-J") as engine:
        with certified.client.wrap_socket(engine.network, server_hostname="localhost"):
            told(engine.notified)
        code, stderr = engine.end()
        assert code == 98
        assert stderr.startswith("s6-tlsd-io: fatal: unable to go on: ")


def test_tlsd_io_refuses_a_configuration_with_96(certified: Certified, tmp_path: Path) -> None:
    for env in (
        {},
        {"KEYFILE": "/nowhere", "CERTFILE": "/nowhere"},
        {**certified.env, "KEYFILE": str(certified.certificate)},
    ):
        with Engine(env) as engine:
            code, stderr = engine.end()
            assert code == 96
            assert stderr.startswith("s6-tlsd-io: fatal: ") and stderr.count("\n") == 1
    with Engine(certified.env, "-y") as engine:
        assert engine.end()[0] == 96


def test_tlsd_io_wants_two_descriptors_that_are_open() -> None:
    for words in (["7"], ["7", "8", "9"], ["0", "7"], ["x", "7"], ["-d", "x", "7", "8"], ["-d", "1", "7", "8"]):
        assert said(["s6-tlsd-io", *words])[0] == 100
    code, stderr = said(["s6-tlsd-io", "100", "101"])
    assert code == 111
    assert stderr.startswith("s6-tlsd-io: fatal: unable to use descriptor 10")


def test_an_interrupted_link_dies_of_the_signal(certified: Certified) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [f"{BIN}/s6-tlsd", "true"]
        process = subprocess.Popen(
            words,
            env={"PATH": PATH, **certified.env},
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
        )
        ours.sendall(b"\x16")
        theirs.close()
        process.send_signal(signal.SIGTERM)
        ours.close()
        _, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGTERM
        assert b"Traceback" not in stderr


def test_tls_1_2_too(certified: Certified) -> None:
    with Engine(certified.env) as engine:
        context = ssl.create_default_context(cadata=None)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with context.wrap_socket(engine.network):
            assert told(engine.notified)[b"SSL_PROTOCOL"] == b"TLSv1.2"
