"""A server's side of pools, its clients, and a look at the processes."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from pathlib import Path

from OpenSSL import SSL

from s6tls.posix.reactor import Reactor
from s6tls.tls.credentials import Isolation, SessionOptions
from s6tls.tls.ends import Descriptors
from s6tls.tls.engines.pool import EnginePool
from s6tls.tls.engines.pools import EnginePools
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi.image import StageExit
from tests.support import pki
from tests.support.kin import children
from tests.support.processes import descriptors, status
from tests.support.servers import PATIENCE
from tests.support.tls.memory import client_context


class Connection:
    """A client, a session, and the application's ends of it."""

    def __init__(self, client: socket.socket, stdin: int, stdout: int, notified: int) -> None:
        client.settimeout(PATIENCE)
        self.client, self.stdin, self.stdout, self.notified = client, stdin, stdout, notified
        self.tls: SSL.Connection

    def shake_hands(
        self, context: SSL.Context | None = None, session: SSL.Session | None = None, stapled: bool = False
    ) -> None:
        self.client.settimeout(None)
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(PATIENCE), 0))
        self.tls = SSL.Connection(context or client_context(), self.client)
        self._states: list[str] = []
        self.tls.set_app_data(self._states)
        self.tls.set_connect_state()
        if session is not None:
            self.tls.set_session(session)
        if stapled:
            self.tls.request_ocsp()
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
        self.pools = EnginePools(self.reactor, isolation)
        self.connections = contextlib.ExitStack()

    def connect(self, parameters: TlsParameters) -> Connection:
        """Accept a client and submit it.  Raises StageExit."""
        ours, client = socket.socketpair()
        app_in, to_app = os.pipe()
        from_app, app_out = os.pipe()
        notified, notify = os.pipe()
        connection = Connection(client, app_in, app_out, notified)
        self.connections.callback(connection.close)
        net = ours.detach()
        fds = Descriptors(net, net, from_app, to_app, notify)
        try:
            self.pools.submit(parameters, fds, "192.0.2.1_4711")
        except StageExit:
            fds.close()
            raise
        return connection

    def refuses(self, parameters: TlsParameters) -> int:
        """Send a client to a pool that is about to end; see that it is refused, and return the pool's exit code."""
        connection = self.connect(parameters)
        status = self.reap(self.pool())
        assert connection.refused()
        return os.WEXITSTATUS(status)

    def newest(self) -> EnginePool:
        """The pool that was used last."""
        return list(self.pools._entries.values())[-1].pool

    def pool(self) -> int:
        """Its process id."""
        return self.newest().pid

    def reap(self, pid: int) -> int:
        """Await the end of a pool, let `pools` know, and return its status."""
        status = os.waitpid(pid, 0)[1]
        assert self.pools.reaped(pid, status)
        return status

    def await_another_than(self, pid: int) -> None:
        """Have the server at work until a pool is replaced."""
        deadline = time.monotonic() + PATIENCE
        while self.pool() == pid:
            assert time.monotonic() < deadline
            self.turn()

    def await_end(self, pid: int) -> int:
        """Go on until a pool that is let go of has ended, and return its status."""
        deadline = time.monotonic() + PATIENCE
        while (ended := os.waitpid(pid, os.WNOHANG))[0] != pid:
            assert time.monotonic() < deadline
            self.turn()
        return ended[1]

    def turn(self) -> None:
        """Let the pools do what is to be done now."""
        self.reactor.after(0.005, lambda: None)
        self.reactor.turn()

    def close(self) -> None:
        """Let all go, and await their end: nothing survives the server and its sessions."""
        entries = [found for entry in self.pools._entries.values() for found in (entry, entry.predecessor) if found]
        pids = {entry.pool.pid for entry in entries if not entry.closed}
        self.pools.close()
        self.connections.close()
        for pid in pids:
            os.waitpid(pid, 0)
        self.reactor.close()


def with_files(place: Path, pair: pki.Pair) -> TlsParameters:
    """Write a pair's files and return the parameters that name them."""
    return TlsParameters(pki.paths(place, pair), SessionOptions())


def engine_of(server: Server, connection: Connection) -> int:
    """The process that has the other end of a connection's pipes."""
    pipe = os.readlink(f"/proc/self/fd/{connection.stdin}")
    (found,) = [pid for pid in children(server.pool()) if pipe in descriptors(pid).values()]
    return found


def ids(pid: int) -> dict[str, list[int]]:
    found = status(pid)
    return {name: [int(word) for word in found[name].split()] for name in ("Uid", "Gid", "Groups")}
