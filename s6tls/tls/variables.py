"""What the program is told about its session: the SSL_ variables.

They are sent as a reply (`s6tls.helper.reply`), which also says that the handshake is done.  Every
byte in them may come from the client.  What the client says never leaves its value, or its entry in a
list.  It is told whole or not at all, since a name cut short is a different name.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cryptography import x509
from OpenSSL import crypto

from s6tls.helper import reply, texts

if TYPE_CHECKING:
    from s6tls.tls.pump import Pump

_LONGEST_VALUE = 16384
"""Bytes that a value may have.  Three of them can come near it, and the reply has room for that."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SEPARATORS = re.compile(r"[\\,]")


def notification(pump: Pump) -> bytes:
    """Return the notification for an established session."""
    connection = pump.connection
    values = {
        b"SSL_PROTOCOL": connection.protocol,
        b"SSL_CIPHER": connection.cipher,
        b"SSL_TLS_SNI_SERVERNAME": texts.host_name(connection.server_name),
        b"SSL_ALPN": texts.token(connection.application_protocol),
        b"SSL_SESSION_REUSED": b"1" if connection.resumed else b"",
    }
    certificate = connection.peer_certificate
    if certificate is not None:
        values |= _about(certificate)
    return reply.encode({name: value for name, value in values.items() if 0 < len(value) <= _LONGEST_VALUE})


def _about(certificate: crypto.X509) -> dict[bytes, bytes]:
    """Return what a client's certificate says, without what cannot be told from it."""
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    values = {b"SSL_PEER_CERT_HASH": b"SHA256:" + hashlib.sha256(der).hexdigest().encode()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of what other people's certificates are like
        for name, tell in _TELLERS.items():
            try:
                values[name] = tell(certificate.to_cryptography()).encode()
            except Exception:  # of what kind, for which nonsense, changes with each version of the library
                continue
    return values


def _name(name: x509.Name) -> str:
    """Return a distinguished name as RFC 4514 text, in which that standard's escapes also stand for line ends."""
    return _UNPRINTABLE.sub(_in_hex, name.rfc4514_string())


def _serial(certificate: x509.Certificate) -> str:
    """Return the serial number in hexadecimal, two digits for each byte."""
    digits = f"{abs(certificate.serial_number):X}"
    return "-" * (certificate.serial_number < 0) + "0" * (len(digits) % 2) + digits


def _alternative_names(certificate: x509.Certificate) -> str:
    """Return the alternative names of the kinds that have a text, as many as there is room for."""
    room = _LONGEST_VALUE
    entries: list[str] = []
    for entry in _entries(certificate):
        room -= len(entry.encode()) + 1
        if room < 0:
            break
        entries.append(entry)
    return ",".join(entries)


def _entries(certificate: x509.Certificate) -> Iterator[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    for name in names:
        for kind, prefix in _KINDS.items():
            if isinstance(name, kind):
                text = _SEPARATORS.sub(r"\\\g<0>", str(name.value))
                yield f"{prefix}:{_UNPRINTABLE.sub(_in_hex, text)}"


def _in_hex(found: re.Match[str]) -> str:
    return "".join(f"\\{byte:02X}" for byte in found[0].encode())


_KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.RFC822Name: "email",
    x509.UniformResourceIdentifier: "URI",
}
_TELLERS: dict[bytes, Callable[[x509.Certificate], str]] = {
    b"SSL_PEER_CERT_SUBJECT": lambda certificate: _name(certificate.subject),
    b"SSL_PEER_CERT_ISSUER": lambda certificate: _name(certificate.issuer),
    b"SSL_PEER_CERT_SERIAL": _serial,
    b"SSL_PEER_CERT_SAN": _alternative_names,
    b"SSL_PEER_CERT_NOTAFTER": lambda certificate: (
        certificate.not_valid_after_utc.replace(tzinfo=None).isoformat() + "Z"
    ),
}
