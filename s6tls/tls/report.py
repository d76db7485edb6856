"""What the application is told about its session: the SSL_ variables.

The engine sends them as NUL-terminated ``NAME=value`` strings followed by one more
NUL; that is also the sign that the handshake is done.  Every byte in them may come from
the client, so whoever reads them takes only these names and bounded values.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

    from s6tls.tls.pump import Pump

VARIABLES = (
    b"SSL_PROTOCOL",
    b"SSL_CIPHER",
    b"SSL_TLS_SNI_SERVERNAME",
    b"SSL_PEER_CERT_HASH",
    b"SSL_PEER_CERT_SUBJECT",
)
LARGEST = 65536
"""Bytes that a notification may have, its final NUL included: what an empty pipe takes without waiting."""

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
        from OpenSSL import crypto

        digest = hashlib.sha256(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)).hexdigest()
        values[b"SSL_PEER_CERT_HASH"] = b"SHA256:" + digest.encode()
        values[b"SSL_PEER_CERT_SUBJECT"] = _subject(certificate)
    return b"".join(name + b"=" + _fit(value) + b"\0" for name, value in values.items() if value) + b"\0"


def parse(data: bytes) -> dict[bytes, bytes]:
    """Read a complete notification.  Raises ValueError for anything that is none."""
    if not data.endswith(b"\0\0") or len(data) > LARGEST:
        raise ValueError("malformed notification")
    found = {}
    for entry in data[:-2].split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if not equals or name not in VARIABLES:
            raise ValueError("malformed notification")
        found[name] = value
    return found


def _subject(certificate: X509) -> bytes:
    """Return the subject as RFC 4514 text, or nothing for one that has no such text."""
    try:
        return certificate.to_cryptography().subject.rfc4514_string().encode()
    except ValueError:
        return b""


def _fit(value: bytes) -> bytes:
    """Return a value that can stand in an environment: no NUL, and no longer than anybody needs."""
    return value.replace(b"\0", b"\\00")[:_LONGEST_VALUE]
