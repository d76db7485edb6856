"""A client's side of the record layer, written by hand: it can say what no library would, and hears all that is said.

Only AES-256-GCM with SHA-384, which our servers prefer in both versions of TLS.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

from tests.support.tls.memory import client_context

ALERT, HANDSHAKE, DATA = 21, 22, 23
LARGEST = 16384
HEADER = 5
_TAG = 16
_EXPLICIT_NONCE = 8
_KEY_UPDATE = 24


class Records:
    """What both versions have: records of one session, from the first after the handshake on."""

    def record(self, kind: int, content: bytes) -> bytes:
        """Return one record with this content."""
        raise NotImplementedError

    def open(self, record: bytes) -> tuple[int, bytes]:
        """Return type and content of one record of the server.  Raises cryptography's InvalidTag."""
        raise NotImplementedError

    def data(self, content: bytes) -> bytes:
        """Return application data in as many records as it takes; in one if there is none."""
        pieces = range(0, max(1, len(content)), LARGEST)
        return b"".join([self.record(DATA, content[start : start + LARGEST]) for start in pieces])

    def alert(self, level: int, description: int) -> bytes:
        return self.record(ALERT, bytes([level, description]))

    def request_keys(self) -> bytes:
        """Return a key update that asks the server for new keys, too; what follows is under ours."""
        raise NotImplementedError


class _Keys13:
    """One direction of TLS 1.3 (RFC 8446, 5.3, 7.1 and 7.2)."""

    def __init__(self, secret: bytes) -> None:
        self._use(secret)

    def update(self) -> None:
        self._use(_expand(self._secret, b"traffic upd", 48))

    def nonce(self) -> bytes:
        self._sequence += 1
        return (self._mask ^ (self._sequence - 1)).to_bytes(12, "big")

    def _use(self, secret: bytes) -> None:
        self._secret, self._sequence = secret, 0
        self.cipher = AESGCM(_expand(secret, b"key", 32))
        self._mask = int.from_bytes(_expand(secret, b"iv", 12), "big")


class Records13(Records):
    """TLS 1.3 (RFC 8446, 5.2)."""

    def __init__(self, client: bytes, server: bytes) -> None:
        self._ours, self._theirs = _Keys13(client), _Keys13(server)

    def record(self, kind: int, content: bytes) -> bytes:
        header = struct.pack(">BHH", DATA, 0x0303, len(content) + 1 + _TAG)
        return header + self._ours.cipher.encrypt(self._ours.nonce(), content + bytes([kind]), header)

    def open(self, record: bytes) -> tuple[int, bytes]:
        content = self._theirs.cipher.decrypt(self._theirs.nonce(), record[HEADER:], record[:HEADER]).rstrip(b"\0")
        kind, content = content[-1], content[:-1]
        if kind == HANDSHAKE and content[0] == _KEY_UPDATE:
            self._theirs.update()
        return kind, content

    def request_keys(self) -> bytes:
        record = self.record(HANDSHAKE, bytes([_KEY_UPDATE, 0, 0, 1, 1]))
        self._ours.update()
        return record


class Records12(Records):
    """TLS 1.2 (RFC 5246, 5 and 6.3; RFC 5288)."""

    def __init__(self, master: bytes, server_random: bytes, client_random: bytes) -> None:
        keys = _prf(master, b"key expansion" + server_random + client_random, 72)
        self._ours, self._theirs = AESGCM(keys[:32]), AESGCM(keys[32:64])
        self._our_salt, self._their_salt = keys[64:68], keys[68:]
        self._said = self._heard = 1  # Finished was the first record under these keys

    def record(self, kind: int, content: bytes) -> bytes:
        number = struct.pack(">Q", self._said)
        covered = number + struct.pack(">BHH", kind, 0x0303, len(content))
        self._said += 1
        sealed = number + self._ours.encrypt(self._our_salt + number, content, covered)
        return struct.pack(">BHH", kind, 0x0303, len(sealed)) + sealed

    def open(self, record: bytes) -> tuple[int, bytes]:
        explicit = record[HEADER : HEADER + _EXPLICIT_NONCE]
        length = len(record) - HEADER - _EXPLICIT_NONCE - _TAG
        covered = struct.pack(">Q", self._heard) + record[:3] + struct.pack(">H", length)
        self._heard += 1
        return record[0], self._theirs.decrypt(self._their_salt + explicit, record[HEADER + _EXPLICIT_NONCE :], covered)


def context(version: int) -> tuple[SSL.Context, Callable[[SSL.Connection], Records]]:
    """Return a client's context, and what makes the records of a session of it that has just been established."""
    secrets: dict[bytes, bytes] = {}

    def note(_: SSL.Connection, line: bytes) -> None:
        label, _random, secret = line.split()
        secrets[label] = bytes.fromhex(secret.decode())

    def records(connection: SSL.Connection) -> Records:
        if version == SSL.TLS1_3_VERSION:
            return Records13(secrets[b"CLIENT_TRAFFIC_SECRET_0"], secrets[b"SERVER_TRAFFIC_SECRET_0"])
        randoms = connection.server_random() or b"", connection.client_random() or b""
        return Records12(connection.master_key() or b"", *randoms)

    told = client_context(version, ciphers=b"ECDHE+AES256+AESGCM")
    if version == SSL.TLS1_3_VERSION:
        told.set_keylog_callback(note)
    return told, records


def _prf(secret: bytes, seed: bytes, length: int) -> bytes:
    block, found = seed, b""
    while len(found) < length:
        block = hmac.digest(secret, block, "sha384")
        found += hmac.digest(secret, block + seed, "sha384")
    return found[:length]


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    info = struct.pack(">HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
    return HKDFExpand(hashes.SHA384(), length, info).derive(secret)
