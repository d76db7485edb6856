"""Why a file cannot be used, in the words of who looks after it.

Libraries answer with the names of their own types and with addresses of their manuals.  So what a file has in it is
looked at here, once one of them has refused it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_PKCS12 = re.compile(rb"\x30[\x80-\x84][\x00-\xff]{0,4}\x02\x01\x03|\x30[\x00-\x7f]\x02\x01\x03")
_KEY, _CERTIFICATE = b"PRIVATE KEY", (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_LIST = b"X509 CRL"
_WEAK = {
    "ee key too small": "its key is too short for this system's OpenSSL",
    "ca key too small": "its key is too short for this system's OpenSSL",
    "ca md too weak": "its signature has a digest that is no longer safe",
}


def of_key(data: bytes) -> str:
    """Say why these bytes are no private key that a server can use."""
    labels = _LABEL.findall(data)
    keys = [label for label in labels if label.endswith(_KEY)]
    if b"ENCRYPTED" in data and keys:
        return "it is encrypted, and nobody is there to give a server the password: decrypt it (openssl pkey)"
    if keys and b"-----END " + keys[0] + b"-----" not in data:
        return "it is cut short: copy the whole file"
    return _other(data, [] if keys else labels, "private key")


def of_locked_key() -> str:
    """Say that a key in DER is encrypted, which only a library can tell."""
    return of_key(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def of_certificates(data: bytes) -> str:
    """Say why these bytes are no certificates that a server can use."""
    labels = _LABEL.findall(data)
    found = [label for label in labels if label in _CERTIFICATE]
    if len(found) > sum(data.count(b"-----END " + label + b"-----") for label in set(found)):
        return "a certificate in it is cut short: copy the whole file"
    return _other(data, [] if found else labels, "certificate")


def of_lists(data: bytes) -> str:
    """Say why these bytes are no revocation lists."""
    labels = _LABEL.findall(data)
    return _other(data, [] if _LIST in labels else labels, "revocation list")


def of_mismatch(own: bytes, of_chain: Sequence[bytes]) -> str:
    """Say how a key, whose public half is `own`, fails to match a chain with these public keys."""
    if own in of_chain:
        return f"the key's certificate is number {of_chain.index(own) + 1} in the file: put it first"
    return "the key is not that of the first certificate: name a key and a certificate that belong together"


def of_weakness(reason: str) -> str:
    """Say in words what the TLS library finds too weak."""
    return _WEAK.get(reason, reason)


def _other(data: bytes, labels: Sequence[bytes], wanted: str) -> str:
    """Say what stands in a file instead of what is `wanted`; no label leads elsewhere if it is there, but damaged."""
    if not data.strip():
        return f"it is empty: put the {wanted} there again"
    if _PKCS12.match(data):
        return f"it is a PKCS#12 archive: take the {wanted} out of it (openssl pkcs12)"
    if labels:
        return f"there is no {wanted} in it, only {labels[0].decode()}: name the file with the {wanted}"
    form = "what is in it is damaged" if _LABEL.search(data) or data[:1] == b"\x30" else "it is neither PEM nor DER"
    return f"{form}: put the {wanted} there again"
