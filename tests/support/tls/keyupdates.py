"""Key updates (RFC 8446, 4.6.3): OpenSSL's client makes them, but pyOpenSSL has no way to ask for one."""

from __future__ import annotations

import struct
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

from tests.support.tls.memory import client_context


def context() -> tuple[SSL.Context, Callable[[], KeyUpdates]]:
    """Return a TLS 1.3 client's context, and what makes a writer of key updates once its session is established."""
    secrets: dict[bytes, bytes] = {}

    def note(_: SSL.Connection, line: bytes) -> None:
        label, _random, secret = line.split()
        secrets[label] = bytes.fromhex(secret.decode())

    told = client_context(SSL.TLS1_3_VERSION)
    told.set_keylog_callback(note)
    return told, lambda: KeyUpdates(secrets[b"CLIENT_TRAFFIC_SECRET_0"])


class KeyUpdates:
    """Writes records of a TLS 1.3 client with TLS_AES_256_GCM_SHA384, each asking the server for new keys."""

    def __init__(self, secret: bytes) -> None:
        self._secret, self._sequence = secret, 0

    def request(self) -> bytes:
        message = b"\x18\x00\x00\x01\x01" + b"\x16"
        header = b"\x17\x03\x03" + struct.pack(">H", len(message) + 16)
        nonce = int.from_bytes(self._expand(b"iv", 12), "big") ^ self._sequence
        sealed = AESGCM(self._expand(b"key", 32)).encrypt(nonce.to_bytes(12, "big"), message, header)
        self._secret = self._expand(b"traffic upd", 48)
        return header + sealed

    def _expand(self, label: bytes, length: int) -> bytes:
        info = struct.pack(">HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
        return HKDFExpand(hashes.SHA384(), length, info).derive(self._secret)
