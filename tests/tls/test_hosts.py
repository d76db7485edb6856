"""Hosts and engines as real processes: who carries a session, under which ids, holding what, and for how long."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from OpenSSL import SSL

from s6tls.helper import reply
from s6tls.posix.identity import Identity
from s6tls.posix.reactor import Reactor
from s6tls.tls.credentials import SESSION_VARIABLES, Options, Sources
from s6tls.tls.ends import Descriptors
from s6tls.tls.pool import Isolation
from s6tls.tls.pools import Hosts
from s6tls.ucspi.image import StageExit
from tests.tls import pki
from tests.tls.memory import client_context
from tests.tls.pki import Pair

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

PATIENCE = 10.0
OPTIONS = Options()
EACH_ISOLATION = pytest.mark.parametrize("isolation", Isolation, ids=lambda isolation: isolation.value)


def eventually(what: Callable[[], bool]) -> None:
    """Wait for something that gives no sign when it happens."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Connection:
    """A client, a session, and the application's ends of it."""

    def __init__(self, client: socket.socket, stdin: int, stdout: int, notified: int) -> None:
        client.settimeout(PATIENCE)
        self.client, self.stdin, self.stdout, self.notified = client, stdin, stdout, notified
        self.tls: SSL.Connection

    def shake_hands(self, context: SSL.Context | None = None, session: SSL.Session | None = None) -> None:
        self.client.settimeout(None)
        self.tls = SSL.Connection(context or client_context(), self.client)
        self._states: list[str] = []
        self.tls.set_app_data(self._states)
        self.tls.set_connect_state()
        if session is not None:
            self.tls.set_session(session)
        self.tls.do_handshake()

    def ticket(self) -> SSL.Session:
        session = self.tls.get_session()
        assert session is not None
        self.tls.shutdown()  # OpenSSL does not resume a session that was not ended
        return session

    def resumed(self) -> bool:
        return not any("server certificate" in state for state in self._states)

    def works(self) -> bool:
        """Whether bytes go both ways."""
        self.tls.sendall(b"ping")
        heard = os.read(self.stdin, 100)
        os.write(self.stdout, b"pong")
        return (heard, self.tls.recv(100)) == (b"ping", b"pong")

    def serial(self) -> int:
        certificate = self.tls.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        return certificate.serial_number

    def refused(self) -> bool:
        """Whether the engine has let go without a session."""
        return os.read(self.notified, 100) == b""

    def close(self) -> None:
        self.client.close()
        for fd in (self.stdin, self.stdout, self.notified):
            os.close(fd)


class Server:
    """The server's side: hands connections over, and hears of children that end."""

    def __init__(self, isolation: Isolation) -> None:
        self.reactor = Reactor()
        self.hosts = Hosts(self.reactor, isolation)
        self.connections = contextlib.ExitStack()
        self._sources: set[tuple[Sources, Options]] = set()

    def connect(self, sources: Sources, options: Options = OPTIONS) -> Connection:
        """Accept a client and hand it over.  Raises StageExit."""
        ours, client = socket.socketpair()
        app_in, to_app = os.pipe()
        from_app, app_out = os.pipe()
        notified, notify = os.pipe()
        connection = Connection(client, app_in, app_out, notified)
        self.connections.callback(connection.close)
        net = ours.detach()
        fds = Descriptors(net, net, from_app, to_app, notify)
        try:
            self.hosts.carry(sources, options, fds, "192.0.2.1_4711")
        except StageExit:
            fds.close()
            raise
        return connection

    def refuses(self, sources: Sources) -> bool:
        """Whether a client of a host that is about to end is refused, before or after it is handed over."""
        try:
            return self.connect(sources).refused()
        except StageExit:
            return True

    def host(self) -> int:
        """The process id of the newest host."""
        return list(self.hosts._entries.values())[-1].host.pid

    def reap(self, pid: int) -> int:
        """Await the end of a host, let `hosts` know, and return its status."""
        status = os.waitpid(pid, 0)[1]
        assert self.hosts.reaped(pid, status)
        return status

    def close(self) -> None:
        """Let all go, and await their end: nothing survives the server and its sessions."""
        pids = {entry.host.pid for entry in self.hosts._entries.values() if not entry.closed}
        for key in list(self.hosts._entries):
            self.hosts._drop(key)
        self.connections.close()
        for pid in pids:
            os.waitpid(pid, 0)
        self.reactor.close()


@pytest.fixture(params=Isolation, ids=lambda isolation: isolation.value)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


@pytest.fixture
def connection_server() -> Iterator[Server]:
    server = Server(Isolation.CONNECTION)
    yield server
    server.close()


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return pki.sources(tmp_path, pki.pair())


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def held(pid: int) -> dict[int, str]:
    """The descriptors of a process."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor that lists the others
            found[int(entry.name)] = str(entry.readlink())
    return found


def engine_of(server: Server, connection: Connection) -> int:
    """The process that has the other end of a connection's pipes."""
    pipe = str(Path(f"/proc/self/fd/{connection.stdin}").readlink())
    (found,) = [pid for pid in children(server.host()) if pipe in held(pid).values()]
    return found


def ids(pid: int) -> dict[str, list[int]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: [int(word) for word in found[name].split()] for name in ("Uid", "Gid", "Groups")}


# Sessions


def test_a_session_is_carried_and_its_end_is_the_application_s(server: Server, sources: Sources) -> None:
    connection = server.connect(sources)
    connection.shake_hands()
    variables = reply.parse(os.read(connection.notified, reply.LARGEST), SESSION_VARIABLES)
    assert variables[b"SSL_PROTOCOL"] == b"TLSv1.3"
    assert connection.works()


def test_many_sessions_at_once_do_not_wait_for_one_another(server: Server, sources: Sources) -> None:
    silent = [server.connect(sources) for _ in range(5)]
    talking = [server.connect(sources) for _ in range(20)]
    for connection in talking:
        connection.shake_hands()
    assert all(connection.works() for connection in reversed(talking))
    for connection in silent:
        connection.shake_hands()
        assert connection.works()


def test_sessions_resume_whichever_engine_they_meet(server: Server, sources: Sources) -> None:
    context = client_context(SSL.TLS1_2_VERSION)
    first = server.connect(sources)
    first.shake_hands(context)
    session = first.ticket()
    for _ in range(6):
        connection = server.connect(sources)
        connection.shake_hands(context, session)
        assert connection.resumed() and connection.works()
        connection.tls.shutdown()


def test_a_failed_handshake_is_told_and_logged_with_the_client(
    server: Server, sources: Sources, capfd: pytest.CaptureFixture[str]
) -> None:
    connection = server.connect(sources)
    connection.client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert connection.refused()
    line = "s6-tlsd-io: fatal: unable to complete the handshake with 192.0.2.1_4711: http request\n"
    eventually(lambda: line in capfd.readouterr().err)


# Files that change


def test_a_changed_certificate_serves_the_next_client_and_old_sessions_live_on(server: Server, tmp_path: Path) -> None:
    sources = pki.sources(tmp_path, pki.pair())
    old = server.connect(sources)
    old.shake_hands()
    first_host = server.host()
    pki.pair("next.example").write(tmp_path)
    new = server.connect(sources)
    new.shake_hands()
    assert new.serial() != old.serial()
    assert server.host() != first_host
    assert old.works() and new.works()
    old.client.close()
    os.close(old.stdout)
    old.stdout = os.open("/dev/null", os.O_WRONLY)
    assert os.read(old.stdin, 1) == b""
    assert os.WEXITSTATUS(os.waitpid(first_host, 0)[1]) == 0


def test_a_ticket_of_the_old_certificate_is_not_taken_by_the_new_one(server: Server, tmp_path: Path) -> None:
    sources, context = pki.sources(tmp_path, pki.pair()), client_context(SSL.TLS1_2_VERSION)
    old = server.connect(sources)
    old.shake_hands(context)
    old_host, session = server.host(), old.ticket()
    pki.pair("next.example").write(tmp_path)
    new = server.connect(sources)
    new.shake_hands(context, session)
    assert not new.resumed()
    server.connections.close()
    os.waitpid(old_host, 0)


def test_a_broken_key_refuses_with_96_until_the_files_change(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = pki.pair()
    sources = pki.sources(tmp_path, Pair(b"garbage", good.chain))
    assert server.refuses(sources)
    assert os.WEXITSTATUS(server.reap(server.host())) == 96
    assert "s6-tlsd-io: fatal: unable to read private key" in capfd.readouterr().err
    for _ in range(3):
        with pytest.raises(StageExit) as refused:
            server.connect(sources)
        assert refused.value.code == 96
    good.write(tmp_path)
    connection = server.connect(sources)
    connection.shake_hands()
    assert connection.works()


def test_a_missing_file_refuses_with_96_until_it_is_there(server: Server, tmp_path: Path) -> None:
    sources = pki.sources(tmp_path, pki.pair())
    first = server.connect(sources)
    first.shake_hands()
    (tmp_path / "server.key").rename(tmp_path / "elsewhere")
    with pytest.raises(StageExit, match=r"server\.key") as refused:
        server.connect(sources)
    assert refused.value.code == 96
    (tmp_path / "elsewhere").rename(tmp_path / "server.key")
    old_host = server.host()
    connection = server.connect(sources)
    connection.shake_hands()
    assert connection.works() and first.works()
    if server.host() != old_host:  # the rename changed the file's ctime
        server.connections.close()
        os.waitpid(old_host, 0)


def test_hosts_that_nobody_used_for_long_make_room_for_new_ones(
    connection_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s6tls.tls.pools._MOST_HOSTS", 2)
    each = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        each.append(pki.sources(tmp_path / name, pki.pair()))
    connection_server.connect(each[0]).shake_hands()
    first = connection_server.host()
    connection_server.connect(each[1]).shake_hands()
    connection_server.connect(each[2]).shake_hands()
    connection_server.connections.close()
    assert os.waitpid(first, 0)[0] == first


# Hosts that die


def test_a_host_that_was_killed_is_started_again_and_its_sessions_live_on(server: Server, sources: Sources) -> None:
    before = server.connect(sources)
    before.shake_hands()
    killed = server.host()
    os.kill(killed, signal.SIGKILL)
    server.reap(killed)
    after = server.connect(sources)
    assert server.host() != killed
    after.shake_hands()
    assert before.works() and after.works()


def test_an_engine_that_was_killed_is_replaced(server: Server, sources: Sources) -> None:
    before = server.connect(sources)
    before.shake_hands()
    engine = engine_of(server, before)
    number = len(children(server.host()))
    os.kill(engine, signal.SIGKILL)
    for _ in range(3):
        connection = server.connect(sources)
        connection.shake_hands()
        assert connection.works()
    eventually(lambda: len(children(server.host())) >= min(number, 2))


def test_a_host_that_cannot_fork_tries_again(
    connection_server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uid = 200_000 + os.getpid()
    key, chain = pki.pair().write(tmp_path)
    sources = Sources(((b"", key, chain),), identity=Identity(uid, uid))
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    others = [subprocess.Popen(["sleep", "60"], user=uid, group=uid) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NPROC, (3, limits[1]))
    try:
        connection = connection_server.connect(sources)
        eventually(lambda: "s6-tlsd-io: warning: unable to fork" in capfd.readouterr().err)
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, limits)
        for other in others:
            other.kill()
            other.wait()
    connection.shake_hands()
    assert connection.works()


def test_ids_that_cannot_be_taken_are_tried_again_with_the_next_client(
    server: Server, sources: Sources, capfd: pytest.CaptureFixture[str]
) -> None:
    impossible = Sources(sources.keypairs, identity=Identity(2**32 - 1, None))  # -1, to the kernel
    for _ in range(2):
        assert server.refuses(impossible)
        assert os.WEXITSTATUS(server.reap(server.host())) == 111
    assert "s6-tlsd-io: fatal: unable to drop privileges" in capfd.readouterr().err


# What they hold


def test_engines_run_under_the_ids_of_the_rule_and_hold_only_their_connection(
    connection_server: Server, sources: Sources
) -> None:
    mine = Sources(sources.keypairs, identity=Identity(64_001, 64_002))
    connection = connection_server.connect(mine)
    connection.shake_hands()
    assert connection.works()
    engine = engine_of(connection_server, connection)
    for pid in (engine, connection_server.host(), *children(connection_server.host())):
        assert ids(pid) == {"Uid": [64_001] * 4, "Gid": [64_002] * 4, "Groups": []}
    ours = held(os.getpid())
    links = held(engine)
    assert links.pop(0) == links.pop(1) == "/dev/null"
    assert links.pop(2) == ours[2]
    assert sum(link.startswith("socket:") for link in links.values()) == 2  # one socket, twice
    assert len({link for link in links.values() if link.startswith("socket:")}) == 1
    assert sorted(link for link in links.values() if not link.startswith("socket:")) == sorted(
        [ours[connection.stdin], ours[connection.stdout], "anon_inode:[eventpoll]"]
    )


def test_workers_run_under_the_ids_of_the_rule(sources: Sources) -> None:
    server = Server(Isolation.WORKER)
    connection = server.connect(Sources(sources.keypairs, identity=Identity(64_001, 64_002)))
    connection.shake_hands()
    for pid in (server.host(), *children(server.host())):
        assert ids(pid) == {"Uid": [64_001] * 4, "Gid": [64_002] * 4, "Groups": []}
        links = held(pid)
        assert links[0] == links[1] == "/dev/null"
    server.close()


def test_waiting_engines_hold_nothing_of_the_server(
    connection_server: Server, sources: Sources, tmp_path: Path
) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        connection = connection_server.connect(sources)
        connection.shake_hands()
        for pid in (connection_server.host(), *children(connection_server.host())):
            assert str(tmp_path / "secret") not in held(pid).values()


def test_a_hundred_connections_leave_no_descriptor_in_the_server(server: Server, sources: Sources) -> None:
    server.connect(sources).shake_hands()
    server.connections.close()
    before = held(os.getpid())
    for _ in range(10):
        for connection in [server.connect(sources) for _ in range(10)]:
            connection.shake_hands()
            assert connection.works()
        server.connections.close()
    assert held(os.getpid()) == before


def test_engines_end_with_their_sessions(connection_server: Server, sources: Sources) -> None:
    for _ in range(10):
        connection_server.connect(sources).shake_hands()
    connection_server.connections.close()
    eventually(lambda: len(children(connection_server.host())) == 2)


# More than the host can take at once


def test_connections_that_wait_for_a_stopped_host_are_served_in_the_end_even_under_an_old_certificate(
    connection_server: Server, tmp_path: Path
) -> None:
    sources = pki.sources(tmp_path, pki.pair())
    first = connection_server.connect(sources)
    first.shake_hands()
    host = connection_server.host()
    entry = list(connection_server.hosts._entries.values())[-1]
    os.kill(host, signal.SIGSTOP)
    entry.host.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    waiting = [connection_server.connect(sources) for _ in range(30)]
    assert not entry.host.flush()
    pki.pair("next.example").write(tmp_path)
    new = connection_server.connect(sources)
    new.shake_hands()
    os.kill(host, signal.SIGCONT)
    for connection in waiting:
        while not select.select([connection.notified], [], [], 0)[0]:
            start_handshake(connection)
            connection_server.reactor.after(0.01, connection_server.reactor.stop)
            connection_server.reactor.run()
        assert connection.works()
        assert connection.serial() == first.serial() != new.serial()
    connection_server.connections.close()
    os.waitpid(host, 0)


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


class OneTick(Sources):
    """Files that are written again while their clock stands still at `now`."""

    now: ClassVar[int] = 0

    def stamps(self) -> tuple[Stamp, ...]:
        return ((0, 0, 0, 0, self.now),)


def test_a_file_rewritten_within_one_tick_of_the_clock_shows(connection_server: Server, tmp_path: Path) -> None:
    """Nothing about such a file tells, but its bytes."""
    sources = OneTick(pki.sources(tmp_path, pki.pair()).keypairs)
    OneTick.now = time.time_ns()
    connection_server.hosts.prepare(sources, OPTIONS)
    first = connection_server.host()
    chain = tmp_path / "server.crt"
    chain.write_bytes(chain.read_bytes() + b"\n")
    connection_server.hosts.prepare(sources, OPTIONS)
    assert connection_server.host() != first
    os.waitpid(first, 0)


def test_a_file_that_has_just_been_written_costs_no_host_for_each_client(
    connection_server: Server, sources: Sources
) -> None:
    connection_server.hosts.prepare(sources, OPTIONS)
    host = connection_server.host()
    entry = list(connection_server.hosts._entries.values())[-1]

    def stable() -> bool:
        connection_server.hosts.prepare(sources, OPTIONS)
        return entry.stable

    eventually(stable)
    assert connection_server.host() == host
