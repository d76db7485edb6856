"""A real HAProxy for a test, in front of servers of ours.

    with haproxy(site.place, [f"server s 127.0.0.1:{server.port} send-proxy-v2"]) as proxy:
        assert proxy.answer(by, source="127.0.0.2") == b"hello"

It listens on a socket that the test has bound, so its port is known and free, and nobody has to wait for it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support import peers
from tests.support.servers import PATIENCE, Log

CONFIGURATION = """\
global
    stats socket {admin} level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client {patience}s
    timeout server {patience}s
    retries 3
    option redispatch 1
frontend clients
    bind fd@{fd} {tls}
    unique-id-format test-%pid-%rt
    default_backend servers
backend servers
    {backend}
"""


class Haproxy:
    """A running HAProxy; clients connect to `port` of 127.0.0.1."""

    def __init__(self, port: int, admin: str, log: Log) -> None:
        self.port, self._admin, self._log = port, admin, log

    def wait_log(self, pattern: str, count: int = 1) -> None:
        """Wait until what HAProxy says matches `pattern` so many times."""
        self._log.wait_for(pattern, count)

    def tell(self, command: str) -> str:
        """Give a command on the administrator's socket; return the answer."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(PATIENCE)
            admin.connect(self._admin)
            admin.sendall(command.encode() + b"\n")
            return peers.read_all(admin).decode()

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """Return a connection from an address of 127.0.0.0/8."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE, (source, 0))

    def dial(self, by: ssl.SSLContext, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """Return an established TLS session."""
        client = self.connect(source)
        try:
            return by.wrap_socket(client, server_hostname="localhost")
        except BaseException:
            client.close()
            raise

    def answer(self, by: ssl.SSLContext, source: str = "127.0.0.1") -> bytes:
        """Dial, send end of file, and return what comes."""
        with self.dial(by, source) as client:
            return peers.read_all(client)

    def refused(self, by: ssl.SSLContext, source: str) -> bool:
        """Tell whether a TLS client from this address gets no session."""
        try:
            self.dial(by, source).close()
        except OSError:  # ssl.SSLError is one
            return True
        return False


@contextlib.contextmanager
def haproxy(place: Path, backend: Sequence[str], tls: str = "") -> Iterator[Haproxy]:
    """Run HAProxy with these lines for a backend, and end it afterwards; `tls` are words for its `bind`."""
    admin, configuration = str(place / "admin"), place / "haproxy.cfg"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        configuration.write_text(
            CONFIGURATION.format(
                admin=admin, patience=int(PATIENCE), fd=listener.fileno(), tls=tls, backend="\n    ".join(backend)
            )
        )
        process = subprocess.Popen(
            ["/usr/sbin/haproxy", "-db", "-f", str(configuration)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
        port = listener.getsockname()[1]
    assert process.stderr is not None
    log = Log(process.stderr)
    try:
        yield Haproxy(port, admin, log)
    finally:
        process.kill()
        process.wait(PATIENCE)
        log.close()
