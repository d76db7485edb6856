"""Under s6 and systemd: readiness, sockets that are handed over, and stopping without cutting anybody off.

The examples run as they stand but for paths and the port.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from s6tls.accessrules.compile import compile_tree
from s6tls.posix import jail
from s6tls.posix.identity import own_account
from tests.support import peers, processes
from tests.support.servers import BIN, PATH, PATIENCE, Log, Server, server
from tests.support.site import Site, of

ENGINES, WWW_DATA = own_account("s6tls-engine").uid, pwd.getpwnam("www-data").pw_uid
EXAMPLES = Path(__file__).parents[3] / "examples"
# What systemd does before it executes ExecStart: the socket on descriptor 3, and the variables that say so.
AS_SYSTEMD = """
import os, sys
number, *words = sys.argv[1:]
os.dup2(int(number), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ.pop("LC_CTYPE", None)  # Python's own
os.execvp(words[0], words)
"""


def rules_for_loopback(place: Path) -> Path:
    rule = place / "rules" / "ip4" / "127.0.0.1_32"
    rule.mkdir(parents=True)
    (rule / "allow").touch()
    compile_tree(os.fsencode(place / "rules.cdb"), os.fsencode(place / "rules"))
    return place / "rules.cdb"


# s6


@contextmanager
def supervised(service: Path) -> Iterator[Log]:
    """Run s6-supervise on a service directory until its service is ready."""
    process = subprocess.Popen(
        ["s6-supervise", str(service)], env={"PATH": PATH}, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    log = Log(process.stdout)
    try:
        processes.await_that(lambda: subprocess.run(["s6-svok", str(service)]).returncode == 0)
        assert s6("s6-svwait", "-U", "-t", "20000", str(service)) == 0, log.text()
        yield log
    finally:
        s6("s6-svc", "-xdk", str(service))
        process.wait(PATIENCE)
        log.close()


def s6(*words: str) -> int:
    return subprocess.run(words, timeout=PATIENCE).returncode


def test_an_s6_service_is_ready_when_it_says_so_and_goes_down_without_cutting_anybody_off(tmp_path: Path) -> None:
    site = Site(tmp_path, "connection")
    service = own_service(tmp_path, site, "s6")
    with supervised(service) as log:
        port = int(log.wait_for(r"bound to ip 127\.0\.0\.1 port (\d+)$")[0][1])
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
        with peers.context(site.authority.file).wrap_socket(plain, server_hostname="localhost") as client:
            assert client.recv(100) == b"hello, 127.0.0.1\n"
            assert s6("s6-svc", "-d", str(service)) == 0
            log.wait_for("^s6-tcpserverd: info: received SIGTERM, quitting$")
            client.sendall(b"still here")
            assert client.recv(100) == b"still here"
        assert s6("s6-svwait", "-D", "-t", "20000", str(service)) == 0
        log.wait_for("^s6-tcpserverd: info: exiting$")


# runit, daemontools, supervisord


def own_supervisord(place: Path, site: Site) -> list[str]:
    """Make a configuration of the example; its log is what supervisord says."""
    text = (EXAMPLES / "supervisord" / "hello.conf").read_text().replace("/var/log/hello.log", "/dev/stdout")
    text = text.replace("127.0.0.1 8443", "127.0.0.1 0").replace("/etc/s6tls/rules.cdb", str(rules_for_loopback(place)))
    for name, path in of(site.pair).items():
        text = re.sub(rf'{name}="[^"]*"', f'{name}="{path}"', text)
    (place / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nuser=root\npidfile={place}/pid\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
        f"{text}stdout_logfile_maxbytes=0\n"
    )
    return ["supervisord", "-c", str(place / "supervisord.conf")]


def own_service(place: Path, site: Site, manager: str) -> Path:
    """Copy the service directory of an example, with the test's port, certificate and rules."""
    service = place / "hello"
    shutil.copytree(EXAMPLES / manager / "hello", service)
    run = (service / "run").read_text()
    (service / "run").write_text(run.replace("127.0.0.1 8443", "127.0.0.1 0"))
    for name, path in of(site.pair).items():
        (service / "env" / name).write_text(path)
    rules_for_loopback(service)
    return service


@pytest.mark.parametrize("manager", ["runit", "daemontools", "supervisord"])
def test_other_supervisors_stop_a_service_without_cutting_anybody_off(manager: str, tmp_path: Path) -> None:
    site = Site(tmp_path, "connection")
    if manager == "supervisord":
        words = own_supervisord(tmp_path, site)
    else:
        service = str(own_service(tmp_path, site, manager))
        words = ["runsv" if manager == "runit" else "supervise", service]
    stop = {"runit": ["sv", "exit"], "daemontools": ["svc", "-dx"], "supervisord": []}[manager]
    process = subprocess.Popen(words, env={"PATH": PATH}, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    log = Log(process.stdout)
    try:
        port = int(log.wait_for(r"bound to ip 127\.0\.0\.1 port (\d+)$")[0][1])
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
        with peers.context(site.authority.file).wrap_socket(plain, server_hostname="localhost") as client:
            assert client.recv(100) == b"hello, 127.0.0.1\n"
            if stop:
                subprocess.Popen([*stop, service], env={"PATH": PATH}, stdout=subprocess.DEVNULL).wait(PATIENCE)
            else:
                process.terminate()
            log.wait_for("^s6-tcpserverd: info: received SIGTERM, quitting$")
            client.sendall(b"still here")
            assert client.recv(100) == b"still here"
        log.wait_for("^s6-tcpserverd: info: exiting$")
        assert process.wait(PATIENCE) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        log.close()


# systemd


@contextmanager
def handed_over(*words: str, env: dict[str, str], kind: int = socket.SOCK_STREAM) -> Iterator[Server]:
    """Start a server with a bound and listening socket, as systemd would."""
    with socket.socket(type=kind) as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        words = tuple(word.replace("PORT", str(listener.getsockname()[1])) for word in words)
        launcher = [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno())]
        fds = [listener.fileno()]
        with server([*launcher, *words], {"LISTEN_FDS": "1", **env}, pass_fds=fds) as s:
            listener.close()
            yield s


@contextmanager
def notified(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        manager.settimeout(PATIENCE)
        yield manager


def exec_start() -> list[str]:
    """Return the command line of the systemd unit."""
    unit = (EXAMPLES / "systemd" / "hello.service").read_text()
    return shlex.split(re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)[0])


def test_a_systemd_service_takes_the_socket_and_tells_when_it_is_ready_and_when_it_stops(site: Site) -> None:
    words = [word.replace("/usr/local/bin/", f"{BIN}/") for word in exec_start()]
    words[words.index("/etc/s6tls/rules.cdb")] = str(rules_for_loopback(site.place))
    words.insert(words.index(f"{BIN}/s6-tlsserver") + 1, f"--isolation={site.isolation}")
    by = peers.context(site.authority.file)
    with notified(site.place) as manager:
        env = {**of(site.pair), "NOTIFY_SOCKET": str(site.place / "notify")}
        with handed_over(*words, env=env) as s:
            assert manager.recv(100) == b"READY=1"
            with peers.dial(s, by) as client:
                assert client.recv(100) == b"hello, 127.0.0.1\n"
                found = [processes.status(pid)["Uid"].split() for pid in s.children()]
                assert sorted(found) == sorted([[str(uid)] * 4 for uid in (ENGINES, WWW_DATA)])
                s.signal(signal.SIGTERM)
                assert manager.recv(100) == b"STOPPING=1"
                client.sendall(b"still here")
                assert client.recv(100) == b"still here"
            assert s.wait() == 0


@pytest.mark.parametrize("words", [("-", "-"), ("127.0.0.1", "PORT"), ("-", "PORT"), ("127.0.0.1", "-")], ids=" ".join)
def test_a_socket_is_taken_when_it_is_the_one_that_is_asked_for(words: tuple[str, str]) -> None:
    with handed_over("s6-tcpserver", *words, "env", env={"LISTEN_FDNAMES": "x", "NOTIFY_SOCKET": "/nowhere"}) as s:
        found = s.exchange().decode().splitlines()
    assert sorted(line.partition("=")[0] for line in found) == [
        "PATH",
        "PROTO",
        *("TCPCONNNUM", "TCPLOCALIP", "TCPLOCALPORT", "TCPREMOTEIP", "TCPREMOTEPORT"),
    ]


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (("127.0.0.2", "-"), {}, r"the socket handed over is bound to ip 127\.0\.0\.1 port \d+"),
        (("-", "1"), {}, r"the socket handed over is bound to ip 127\.0\.0\.1 port \d+"),
        (("-", "-"), {"LISTEN_FDS": "2"}, "unable to use what is handed over on descriptor 3: not one socket"),
    ],
    ids=str,
)
def test_another_socket_is_100(words: tuple[str, str], env: dict[str, str], message: str) -> None:
    with (
        pytest.raises(AssertionError, match=rf"exit code 100\).*\n(.*\n)?s6-tcpserver: fatal: {message}\n"),
        handed_over("s6-tcpserver", *words, "true", env=env),
    ):
        pass


def test_a_socket_that_does_not_listen_is_100() -> None:
    message = "unable to use what is handed over on descriptor 3: not a TCP socket"
    with (
        pytest.raises(AssertionError, match=rf"exit code 100\).*\ns6-tcpserver: fatal: {message}\n"),
        handed_over("s6-tcpserver", "-", "-", "true", env={}, kind=socket.SOCK_DGRAM),
    ):
        pass


def test_a_socket_meant_for_another_process_is_left_alone() -> None:
    with server(["s6-tcpserver", "127.0.0.1", "0", "echo", "hello"], {"LISTEN_PID": "1", "LISTEN_FDS": "1"}) as s:
        assert s.exchange() == b"hello\n"


def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    for unit in (EXAMPLES / "systemd").glob("hello.*"):
        text = unit.read_text().replace("/usr/local/bin/", f"{BIN}/")
        (tmp_path / unit.name).write_text(text)
    words = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    """What systemd thinks of it, from 0 to 10: the less, the less can the service do if somebody takes it over."""
    (tmp_path / "hello.socket").write_text((EXAMPLES / "systemd" / "hello.socket").read_text())
    unit = (EXAMPLES / "systemd" / "hello.service").read_text()
    (tmp_path / "hello.service").write_text(unit.replace("/usr/local/bin/", f"{BIN}/"))
    words = ["systemd-analyze", "security", "--offline=yes", "--threshold=19", str(tmp_path / "hello.service")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    exposure = re.findall(r"Overall exposure level for hello.service: ([0-9.]+)", done.stdout)
    assert float(exposure[0]) < 2.0


def system_calls(name: str) -> set[str]:
    """What one of systemd's groups of system calls comes to."""
    words = ["systemd-analyze", "syscall-filter", name]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    members = {line.strip() for line in lines if line.startswith("    ") and not line.strip().startswith("#")}
    return {call for member in members for call in (system_calls(member) if member[0] == "@" else {member})}


def test_the_unit_leaves_the_calls_that_a_jail_leaves() -> None:
    """A call that the unit forbids would end an engine: it is killed, and no line of ours says why."""
    left: set[str] = set()
    for words in re.findall(
        "^SystemCallFilter=(.*)$", (EXAMPLES / "systemd" / "hello.service").read_text(), re.MULTILINE
    ):
        for word in words.lstrip("~").split():
            calls = system_calls(word) if word[0] == "@" else {word}
            left = left - calls if words.startswith("~") else left | calls
    wanted = {call for calls in jail._CALLS.values() for call in calls}
    assert len(wanted) > 50
    assert wanted - left == set()


def test_systemd_makes_the_account_of_the_engines() -> None:
    words = ["systemd-sysusers", "--dry-run", str(EXAMPLES / "systemd" / "s6tls.conf")]
    assert subprocess.run(words, capture_output=True, timeout=PATIENCE).returncode == 0


# Stopping


def test_what_a_program_leaves_behind_is_waited_for_and_so_is_its_last_byte(site: Site) -> None:
    """A manager may kill what the server leaves: so the server stays while anything below it has something to send."""
    by = peers.context(site.authority.file)
    size = 8_000_000
    prog = ("sh", "-c", f"head -c {size} /dev/zero &")
    with site.serve(*prog, options=("--drain", "60000")) as s:
        with peers.dial(s, by, receive_buffer=4096) as client:
            s.wait_log(r"^s6-tcpserverd: info: end pid \d+ exitcode 0 count 1/40$")
            s.signal(signal.SIGTERM)
            s.wait_log("^s6-tcpserverd: info: received SIGTERM, quitting$")
            assert len(peers.read_all(client)) == size
        assert s.wait() == 0
