"""GnuTLS by its C functions: gnutls_bye for one direction and for both, and none at all."""

from __future__ import annotations

import contextlib
import ctypes
import socket

from tests.support import peers
from tests.support.closers.sessions import WITH_HALF, Session, Way, connect, one_by_one

WAYS = (
    Way("bye_RDWR", polite=True),
    Way("bye_WR", polite=True, acts=WITH_HALF),
    Way("no_bye", polite=False),
    Way("reset", polite=False),
)

GNUTLS_CLIENT, GNUTLS_CRD_CERTIFICATE = 2, 1
GNUTLS_SHUT_RDWR, GNUTLS_SHUT_WR = 0, 1
PRIORITY = b"NORMAL:-VERS-ALL:+VERS-TLS%s"


class Failure(OSError):
    """GnuTLS says that something failed."""


class Client:
    """A session on a blocking socket; nobody's certificate is looked at."""

    def __init__(self, tcp: socket.socket, version: str) -> None:
        self._library = ctypes.CDLL("libgnutls.so.30")
        self._library.gnutls_strerror.restype = ctypes.c_char_p
        self._library.gnutls_record_send.restype = self._library.gnutls_record_recv.restype = ctypes.c_ssize_t
        self._session, self._credentials = ctypes.c_void_p(), ctypes.c_void_p()
        self._library.gnutls_init(ctypes.byref(self._session), GNUTLS_CLIENT)
        self._library.gnutls_certificate_allocate_credentials(ctypes.byref(self._credentials))
        self._call("credentials_set", GNUTLS_CRD_CERTIFICATE, self._credentials)
        self._call("priority_set_direct", PRIORITY % version.encode(), None)
        self._library.gnutls_transport_set_int2(self._session, tcp.fileno(), tcp.fileno())
        self._call("handshake")

    def send(self, data: bytes) -> None:
        self._call("record_send", data, ctypes.c_size_t(len(data)))

    def read(self, most: int) -> bytes:
        """Return what comes next, b"" at the end; without close_notify it is a Failure."""
        buffer = ctypes.create_string_buffer(most)
        return buffer.raw[: self._call("record_recv", buffer, ctypes.c_size_t(most))]

    def bye(self, how: int) -> None:
        self._call("bye", how)

    def free(self) -> None:
        self._library.gnutls_deinit(self._session)
        self._library.gnutls_certificate_free_credentials(self._credentials)

    def _call(self, what: str, *arguments: object) -> int:
        code = -1
        function = getattr(self._library, f"gnutls_{what}")
        while code < 0:
            code = function(self._session, *arguments)
            if code < 0 and self._library.gnutls_error_is_fatal(code):
                raise Failure(self._library.gnutls_strerror(code).decode())
        return int(code)


def _hold(port: int, way: Way, session: Session) -> int:
    with connect(port) as tcp:
        tcp.settimeout(None)
        client = Client(tcp, session.version)
        try:
            return _with_client(client, tcp, way, session)
        finally:
            client.free()


def _with_client(client: Client, tcp: socket.socket, way: Way, session: Session) -> int:
    got = 0
    client.send(session.request)
    while session.act == "answer" and got < session.size:
        got += len(client.read(session.size - got))
    client.send(session.line.encode() + b"\n")
    if session.act == "half":
        client.bye(GNUTLS_SHUT_WR)
    if session.act in ("half", "end"):
        got = _read_all(client)
    if way.name == "bye_WR" and session.act != "half":
        client.bye(GNUTLS_SHUT_WR)
    elif way.name == "bye_RDWR":
        with contextlib.suppress(Failure):  # with -s no close_notify answers
            client.bye(GNUTLS_SHUT_RDWR)
    elif way.name == "reset":
        peers.reset(tcp)
    return got


def _read_all(client: Client) -> int:
    got = 0
    try:
        while data := client.read(65536):
            got += len(data)
    except Failure:  # with -s the end is a bare one
        return got
    return got


run = one_by_one(_hold)
