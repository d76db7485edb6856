"""A server's session in the TLS library, below pyOpenSSL: through the binding that it stands on itself.

pyOpenSSL makes the contexts.  Its Connection is not used, because of what it costs where each connection has
a process of its own: every "want read" is an exception, every read allocates 64 KiB, and each touches
objects of which the process then has to copy the page.  The same calls are made here, in the same order.

A context's callbacks are ours, too (`serve_names`, `serve_protocols`, `serve_responses`, `judge_certificates`): those
of pyOpenSSL look for a Connection.  They are called within `Connection.shake_hands` and never later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL, crypto

RECORD = 16384
"""The most bytes that one record holds."""

_binding = Binding()
lib, _ffi = _binding.lib, _binding.ffi
_WANT_READ, _SYSTEM_CALL, _ZERO_RETURN = lib.SSL_ERROR_WANT_READ, lib.SSL_ERROR_SYSCALL, lib.SSL_ERROR_ZERO_RETURN
_HEARD_END: int = lib.SSL_RECEIVED_SHUTDOWN
_OK, _REFUSED, _NOTHING = 0, 2, 3
"""SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_ALERT_FATAL and SSL_TLSEXT_ERR_NOACK of openssl/tls1.h."""
_BAD, _GOOD = 0, 1
"""What a check of a certificate answers."""
MOST_GIVEN = 65536 + 8192
"""The most bytes that are given at once; fewer are all that there are."""

_read, _write, _bio_read, _bio_write = lib.SSL_read, lib.SSL_write, lib.BIO_read, lib.BIO_write
_get_error, _null = lib.SSL_get_error, _ffi.NULL
_room = _ffi.new("char[]", MOST_GIVEN)
_in_room = _ffi.buffer(_room)
_shaking: Connection | None = None
_callbacks: WeakKeyDictionary[SSL.Context, list[object]] = WeakKeyDictionary()
"""They live as long as their contexts."""


class LibraryError(Exception):
    """The session is broken; the message is the library's own."""


class Closed(Exception):
    """The peer has sent close_notify."""


class Connection:
    """A session; `context` is the one whose certificate it serves."""

    __slots__ = ("_first", "_from_us", "_ssl", "_to_us", "context")

    def __init__(self, context: SSL.Context) -> None:
        self.context = self._first = context  # the first has the ticket keys and the callbacks, to the end
        self._ssl = _ffi.gc(_made(lib.SSL_new(context._context)), lib.SSL_free)
        self._to_us, self._from_us = _made(lib.BIO_new(lib.BIO_s_mem())), _made(lib.BIO_new(lib.BIO_s_mem()))
        lib.SSL_set_bio(self._ssl, self._to_us, self._from_us)  # which then owns them
        lib.SSL_set_accept_state(self._ssl)

    def refuse_tickets(self) -> None:
        """Let no session resume here, and give no tickets."""
        lib.SSL_set_options(self._ssl, SSL.OP_NO_TICKET)

    def ask_for_no_certificate(self) -> None:
        """Take the client without one, whatever the context says."""
        lib.SSL_set_verify(self._ssl, SSL.VERIFY_NONE, _null)

    def take(self, data: bytes) -> None:
        """Take in what has come from the network."""
        _bio_write(self._to_us, data, len(data))

    def give(self) -> bytes:
        """Return some of what is to go to the network, b"" if there is nothing."""
        size = _bio_read(self._from_us, _room, MOST_GIVEN)
        return _in_room[:size] if size > 0 else b""

    def shake_hands(self) -> bool:
        """Tell whether the handshake is done; if not, more must come from the network.  Raises LibraryError, Closed."""
        global _shaking
        _shaking = self
        try:
            result = lib.SSL_do_handshake(self._ssl)
        finally:
            _shaking = None
        if result != 1:
            self._check(result)
        return bool(result == 1)

    def read(self) -> bytes:
        """Return what was in a record, b"" if more must come from the network.  Raises LibraryError, Closed."""
        size = _read(self._ssl, _room, RECORD)
        if size > 0:
            return _in_room[:size]  # type: ignore[no-any-return]
        self._check(size)
        return b""

    def write(self, data: bytes) -> None:
        """Encrypt.  Raises LibraryError."""
        result = _write(self._ssl, data, len(data))
        if result <= 0:
            self._check(result)

    def close(self) -> None:
        """Send close_notify.  Raises LibraryError."""
        result = lib.SSL_shutdown(self._ssl)
        if result < 0:
            self._check(result)

    @property
    def has_heard_end(self) -> bool:
        """Whether a close_notify or a fatal alert has come."""
        return bool(lib.SSL_get_shutdown(self._ssl) & _HEARD_END)

    @property
    def resumed(self) -> bool:
        """Whether this is an earlier session gone on with."""
        return bool(lib.SSL_session_reused(self._ssl))

    @property
    def protocol(self) -> bytes:
        """The version, such as TLSv1.3."""
        return _text(lib.SSL_get_version(self._ssl))

    @property
    def cipher(self) -> bytes:
        """The name of the cipher suite, b"" before there is one."""
        cipher = lib.SSL_get_current_cipher(self._ssl)
        return b"" if cipher == _null else _text(lib.SSL_CIPHER_get_name(cipher))

    @property
    def server_name(self) -> bytes:
        """The name that the client asks for; b"" if it asks for none."""
        return _text(lib.SSL_get_servername(self._ssl, lib.TLSEXT_NAMETYPE_host_name))

    @property
    def application_protocol(self) -> bytes:
        """What ALPN has agreed on, or b""."""
        data, size = _ffi.new("unsigned char **"), _ffi.new("unsigned int *")
        lib.SSL_get0_alpn_selected(self._ssl, data, size)
        return _bytes(data[0], size[0])

    @property
    def peer_certificate(self) -> crypto.X509 | None:
        """The client's certificate."""
        certificate = lib.SSL_get_peer_certificate(self._ssl)
        return None if certificate == _null else crypto.X509._from_raw_x509_ptr(certificate)

    @property
    def verify_error(self) -> str:
        """What the check of the client's certificate has found, or ""."""
        number = lib.SSL_get_verify_result(self._ssl)
        return _text(lib.X509_verify_cert_error_string(number)).decode() if number else ""

    def _check(self, result: int) -> None:
        """Raise what the last call has met, unless more must come from the network.

        After a user_canceled the library takes close_notify for a failed system call.  RFC 8446, 6.1: user_canceled is
        ignored, and close_notify, which follows it, ends one direction.
        """
        kind = _get_error(self._ssl, result)
        if kind == _WANT_READ:
            return
        reasons = _take_reasons()
        if kind == _ZERO_RETURN or (kind == _SYSTEM_CALL and self.has_heard_end):
            raise Closed
        raise LibraryError("; ".join(reasons) or "the peer broke the connection")


def serve_names(context: SSL.Context, choose: Callable[[bytes], SSL.Context | None]) -> None:
    """Have `choose` say which context serves the name that a client asks for, b"" for none; None is this one."""

    def called(ssl: Any, _alert: Any, _data: Any) -> int:
        assert _shaking is not None
        chosen = choose(_shaking.server_name)
        if chosen is not None:
            _shaking.context = chosen
            lib.SSL_set_SSL_CTX(ssl, chosen._context)
        return _OK

    callback = _callback(context, "int(SSL *, int *, void *)", called)
    lib.SSL_CTX_set_tlsext_servername_callback(context._context, callback)


def serve_protocols(context: SSL.Context, ours: Sequence[bytes]) -> None:
    """Agree on the first of our protocols that the client has; one without any of them is refused (RFC 7301, 3.2)."""

    def called(_ssl: Any, chosen: Any, size: Any, theirs: Any, length: int, _data: Any) -> int:
        places = {}
        place = 0
        while place < length:
            name = theirs + place + 1
            places[_bytes(name, theirs[place])] = name
            place += 1 + theirs[place]
        for protocol in ours:
            if protocol in places:
                chosen[0], size[0] = places[protocol], len(protocol)
                return _OK
        return _REFUSED

    kind = "int(SSL *, unsigned char **, unsigned char *, unsigned char *, unsigned int, void *)"
    lib.SSL_CTX_set_alpn_select_cb(context._context, _callback(context, kind, called), _null)


def serve_responses(context: SSL.Context, respond: Callable[[bytes], bytes]) -> None:
    """Have `respond` say which OCSP response goes with a certificate of ours (in DER), b"" for none."""

    def called(ssl: Any, _data: Any) -> int:
        response = respond(_der(lib.SSL_get_certificate(ssl)))
        if not response:
            return _NOTHING
        theirs = lib.OPENSSL_malloc(len(response))  # the library frees it
        if theirs == _null:
            return _NOTHING
        _ffi.buffer(theirs, len(response))[:] = response
        lib.SSL_set_tlsext_status_ocsp_resp(ssl, theirs, len(response))
        return _OK

    lib.SSL_CTX_set_tlsext_status_cb(context._context, _callback(context, "int(SSL *, void *)", called))


def judge_certificates(context: SSL.Context, mode: int, forgive: Callable[[bytes, int, int], int]) -> None:
    """Check clients' certificates: the verdict is the library's, but for what `forgive` says of what it finds wrong.

    It is told a certificate of the chain (in DER), its depth and the error's number, and returns the number of an error
    that stands, or 0.  `mode` is one of pyOpenSSL's.
    """

    def called(good: int, checked: Any) -> int:
        if good:
            return _GOOD
        found, depth = lib.X509_STORE_CTX_get_error(checked), lib.X509_STORE_CTX_get_error_depth(checked)
        left = forgive(_der(lib.X509_STORE_CTX_get_current_cert(checked)), depth, found)
        lib.X509_STORE_CTX_set_error(checked, left)
        return _BAD if left else _GOOD

    callback = _callback(context, "int(int, X509_STORE_CTX *)", called, _BAD)
    lib.SSL_CTX_set_verify(context._context, mode, callback)


def _callback(context: SSL.Context, kind: str, called: Callable[..., int], refused: int = _REFUSED) -> Any:
    """Return a function that the library can call for a context.  If `called` raises, the session is refused."""
    callback = _ffi.callback(kind, called, error=refused, onerror=lambda *_: None)
    _callbacks.setdefault(context, []).append(callback)
    return callback


def _der(certificate: Any) -> bytes:
    """Return a certificate in DER, b"" if there is none; the library keeps it."""
    if certificate == _null:
        return b""
    lib.X509_up_ref(certificate)
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, crypto.X509._from_raw_x509_ptr(certificate))


def _made(pointer: Any) -> Any:
    if pointer == _null:
        _take_reasons()
        raise MemoryError
    return pointer


def _take_reasons() -> list[str]:
    """Return the library's own words for what has gone wrong, and have it forget them."""
    reasons = []
    while number := lib.ERR_get_error():
        reasons.append(_text(lib.ERR_reason_error_string(number)).decode())
    return [reason for reason in reasons if reason]


def _text(pointer: Any) -> bytes:
    return b"" if pointer == _null else _ffi.string(pointer)


def _bytes(pointer: Any, size: int) -> bytes:
    return _ffi.buffer(pointer, size)[:] if size else b""
