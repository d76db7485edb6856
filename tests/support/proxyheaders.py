"""PROXY headers of version 2, as a proxy makes them."""

from __future__ import annotations

import socket
import struct

import google_crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
IP4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 56324, 443)
IP6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + struct.pack("!HH", 1, 2)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def binary(family: int, body: bytes, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def with_checksum(family: int, body: bytes, command: int = 0x21) -> bytes:
    blank = binary(family, body + tlv(3, bytes(4)), command)
    checksum: int = google_crc32c.value(blank)
    return blank[:-4] + checksum.to_bytes(4, "big")
