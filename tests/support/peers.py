"""The client's side of an end-to-end test: TLS clients of Python's ssl module, polite and rude."""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.servers import PATIENCE, Server
from tests.support.site import Pair

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = [TLS12, TLS13]


def context(ca: str, version: ssl.TLSVersion | None = None, pair: Pair | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts `ca`, speaks one version only if told, and may show a certificate."""
    made = ssl.create_default_context(cafile=ca)
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if pair is not None:
        made.load_cert_chain(pair.certificate, pair.key)
    return made


def connect(server: Server, source: str = "127.0.0.1", receive_buffer: int = 0) -> socket.socket:
    """Return a TCP connection from an address of 127.0.0.0/8, with a small receive buffer if told."""
    client = socket.socket()
    try:
        client.settimeout(PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.bind((source, 0))
        client.connect(("127.0.0.1", server.port))
    except BaseException:
        client.close()
        raise
    return client


def dial(
    server: Server,
    by: ssl.SSLContext,
    name: str = "localhost",
    session: ssl.SSLSession | None = None,
    strict: bool = False,
    **tcp: Any,
) -> ssl.SSLSocket:
    """Return an established TLS session.

    With an empty name it asks for none, with a `session` to resume that one; `strict` insists on close_notify
    (a bare end of file is an SSLError), here and in what `by` dials later.
    """
    if strict:
        by.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # some releases of Python set it, Debian 12's among them
    client = connect(server, **tcp)
    try:
        return by.wrap_socket(client, server_hostname=name or None, session=session, suppress_ragged_eofs=not strict)
    except BaseException:
        client.close()
        raise


def send_eof(client: ssl.SSLSocket) -> None:
    """Send TCP's end of file, without close_notify, and leave the other direction open."""
    socket.socket.shutdown(client, socket.SHUT_WR)


def read_all(client: socket.socket, piece: int = 262144) -> bytes:
    """Return everything up to the end of file, read in pieces of this size at most.  A reset is an error."""
    pieces = []
    while data := client.recv(piece):
        pieces.append(data)
    return b"".join(pieces)


class Polite:
    """A TLS client that can say close_notify and go on reading, which ssl's own sockets cannot."""

    def __init__(self, client: socket.socket, by: ssl.SSLContext) -> None:
        self._client = client
        self._received, self._sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = by.wrap_bio(self._received, self._sent, server_hostname="localhost")
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                break
            self._flush()
            self._received.write(client.recv(65536))
        self._flush()

    def send(self, data: bytes) -> None:
        for start in range(0, len(data), 262144):
            self._tls.write(data[start : start + 262144])
            self._flush()

    def encrypt(self, data: bytes) -> bytes:
        """Return the records that say `data`, not sent yet."""
        self._tls.write(data)
        return self._sent.read()

    def end(self, politely: bool) -> None:
        """Send end of file, after close_notify or without."""
        if politely:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            self._flush()
        self._client.shutdown(socket.SHUT_WR)

    def read(self, count: int) -> bytes:
        """Return exactly as many bytes; fewer only when the end of file comes before."""
        data = b""
        while len(data) < count:
            with contextlib.suppress(ssl.SSLWantReadError):
                data += self._tls.read(count - len(data))
                continue
            received = self._client.recv(65536)
            if not received:
                break
            self._received.write(received)
        return data

    def read_all(self) -> bytes:
        """Return everything up to the end of file."""
        pieces = []
        while data := self._client.recv(65536):
            self._received.write(data)
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                while piece := self._tls.read(65536):
                    pieces.append(piece)
        return b"".join(pieces)

    def _flush(self) -> None:
        self._client.sendall(self._sent.read())


def duplex(client: ssl.SSLSocket, data: bytes, piece: int = 262144) -> bytes:
    """Send `data` and end of file, reading all the while whatever comes; return that."""
    rest, pieces = memoryview(data), []
    client.setblocking(False)
    while True:
        wanted = [client] if rest else []
        assert any(select.select([client], wanted, [], PATIENCE)), "the server neither takes nor gives"
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if rest:
                rest = rest[client.send(rest[:piece]) :]
                if not rest:
                    send_eof(client)
        with contextlib.suppress(ssl.SSLWantReadError):
            while got := client.recv(piece):
                pieces.append(got)
            return b"".join(pieces)


def answer(server: Server, by: ssl.SSLContext, request: bytes = b"", name: str = "localhost", **tcp: Any) -> bytes:
    """Dial, send a request and end of file, and return the whole answer."""
    with dial(server, by, name, **tcp) as client:
        client.sendall(request)
        send_eof(client)
        return read_all(client)


def refused(server: Server, by: ssl.SSLContext, **tcp: Any) -> bool:
    """Tell whether a TLS client gets nothing at all: neither a session nor, with one, an answer."""
    try:
        return answer(server, by, **tcp) == b""
    except OSError:  # ssl.SSLError is one
        return True


def reset(client: socket.socket) -> None:
    """Break a connection: the peer sees a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def serial(client: ssl.SSLSocket) -> str:
    """Return the common name of the certificate that the server has shown."""
    certificate = client.getpeercert()
    assert certificate is not None
    subject: Any = certificate["subject"]
    return str(dict(pair for part in subject for pair in part)["commonName"])


def hello() -> bytes:
    """Return the first message of a TLS client."""
    sent = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def crowd(size: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads for clients at the same time; the first that fails fails the test."""
    with ThreadPoolExecutor(size) as pool:
        yield pool


def s_client(server: Server, ca: str, *words: str) -> str:
    """Say hello by ``openssl s_client`` and return what it says."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", ca, *words]
    done = subprocess.run(
        [*command, "-verify_return_error", "-ign_eof"],
        input=b"hello\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
    )
    return done.stdout.decode(errors="replace")


def environment(text: bytes) -> dict[bytes, bytes]:
    """Read what ``env -0`` writes."""
    entries: Iterable[bytes] = text.split(b"\0")[:-1]
    return dict(tuple(entry.split(b"=", 1)) for entry in entries)  # type: ignore[misc]
