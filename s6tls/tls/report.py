"""What the application is told about its session: the SSL_ variables.

They go as a reply (`s6tls.ucspi.reply`), which is also the sign that the handshake is done.  Every
byte in them may come from the client.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from OpenSSL import crypto

from s6tls.ucspi import reply

if TYPE_CHECKING:
    from s6tls.tls.pump import Pump

_LONGEST_VALUE = 16384


def notification(pump: Pump) -> bytes:
    """Return the notification for an established session."""
    connection = pump.connection
    values = {
        b"SSL_PROTOCOL": connection.get_protocol_version_name().encode(),
        b"SSL_CIPHER": (connection.get_cipher_name() or "").encode(),
        b"SSL_TLS_SNI_SERVERNAME": connection.get_servername() or b"",
    }
    certificate = connection.get_peer_certificate()
    if certificate is not None:
        digest = hashlib.sha256(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)).hexdigest()
        values[b"SSL_PEER_CERT_HASH"] = b"SHA256:" + digest.encode()
        values[b"SSL_PEER_CERT_SUBJECT"] = _subject(certificate)
    return reply.encode({name: _fit(value) for name, value in values.items() if value})


def _subject(certificate: crypto.X509) -> bytes:
    """Return the subject as RFC 4514 text, or nothing for one that has no such text."""
    try:
        return certificate.to_cryptography().subject.rfc4514_string().encode()
    except ValueError:
        return b""


def _fit(value: bytes) -> bytes:
    """Return a value that can stand in an environment: no NUL, and no longer than anybody needs."""
    return value.replace(b"\0", b"\\00")[:_LONGEST_VALUE]
