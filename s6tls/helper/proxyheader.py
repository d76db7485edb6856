"""The PROXY protocol's header, version 1 and 2, as bytes in and variables out.

Source: https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt.  A proxy sends the
header ahead of everything else on the connection.  Version 1 is a line of text,
``PROXY TCP4 192.0.2.1 198.51.100.1 56324 443``.  Version 2 is 12 bytes of signature,
4 bytes that tell command, family and length, the addresses, and records of type,
length and value (TLV).

The header ends where the client's own bytes begin, and those are for the next program.
Bytes cannot be put back, so a reader must not take one too many: `Reader.wanted` is
the number of bytes that certainly still belong to the header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from s6tls.accessrules.keys import address_text, parse_address
from s6tls.posix.exitcodes import ExitCode

MALFORMED = ExitCode.BAD_HEADER
UNSUPPORTED = ExitCode.UNSUPPORTED_HEADER
CUT_SHORT = ExitCode.SYSTEM
VARIABLES = (
    b"PROTO",
    b"TCPLOCALIP",
    b"TCPLOCALPORT",
    b"TCPREMOTEIP",
    b"TCPREMOTEPORT",
    b"IPCLOCALPATH",
    b"IPCREMOTEPATH",
    b"SSL_PROTOCOL",
    b"SSL_CIPHER",
    b"SSL_PEER_CERT_CN",
    b"SSL_TLS_SNI_SERVERNAME",
    b"SSL_ALPN",
)

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")
_SHORTEST_LINE = len(b"PROXY UNKNOWN\r\n")
_LONGEST_LINE = 107
_LONGEST_TEXT = 255

_LOCAL, _PROXIED = 0, 1
_UNSPECIFIED, _IP4, _IP6, _UNIX = range(4)
_STREAM, _DATAGRAM = 1, 2
_ALPN, _AUTHORITY, _CRC32C, _SSL = 0x01, 0x02, 0x03, 0x20
_SSL_TEXTS = {0x21: b"SSL_PROTOCOL", 0x22: b"SSL_PEER_CERT_CN", 0x23: b"SSL_CIPHER"}
_CLIENT_USED_SSL = 0x01
_ABOUT_SSL = struct.Struct("!BI")


class ProxyError(Exception):
    """The header is not acceptable; `code` is MALFORMED, UNSUPPORTED or CUT_SHORT."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Reader:
    """Takes a header in, piece by piece.

    `variables` are those that the header sets, complete once `wanted` is 0; they are empty when
    the proxy speaks for itself (LOCAL) or does not say for whom (UNKNOWN).
    """

    def __init__(self, versions: tuple[int, ...] = (1, 2)) -> None:
        """Expect a header of one of these versions."""
        self._versions = versions
        self._data = bytearray()
        self.wanted = min(_SHORTEST_LINE if 1 in versions else _FIXED.size, _FIXED.size)
        self.variables: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> None:
        """Take at most `wanted` bytes in; b"" is the end of file.  Raises ProxyError."""
        if not data:
            raise ProxyError(CUT_SHORT, f"end of file after {len(self._data)} bytes")
        self._data += data
        if 2 in self._versions and self._data[:12] == _SIGNATURE[: len(self._data)]:
            self._feed_binary()
        elif 1 in self._versions and self._data[:6] == b"PROXY "[: len(self._data)]:
            self._feed_line()
        else:
            raise ProxyError(MALFORMED, "not a PROXY header")

    def _feed_binary(self) -> None:
        size = _FIXED.size
        if len(self._data) >= size:
            _, version_command, _, length = _FIXED.unpack_from(self._data)
            if version_command >> 4 != 2:
                raise ProxyError(MALFORMED, "PROXY header of an unknown version")
            size += length
        self.wanted = size - len(self._data)
        if self.wanted == 0:
            self.variables = dict(_parse_binary(bytes(self._data)))

    def _feed_line(self) -> None:
        if self._data.endswith(b"\r\n"):
            self.wanted = 0
            self.variables = dict(_parse_line(bytes(self._data[:-2])))
            return
        missing = max(1 if self._data.endswith(b"\r") else 2, _SHORTEST_LINE - len(self._data))
        if b"\n" in self._data or len(self._data) + missing > _LONGEST_LINE:
            raise ProxyError(MALFORMED, "PROXY line does not end")
        self.wanted = missing


def _parse_line(line: bytes) -> Iterator[tuple[bytes, bytes]]:
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return
    if words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyError(MALFORMED, "PROXY line of an unknown protocol")
    if len(words) != 6:
        raise ProxyError(MALFORMED, "PROXY line has the wrong number of words")
    size = 4 if words[1] == b"TCP4" else 16
    yield b"PROTO", b"TCP"
    yield b"TCPREMOTEIP", _address(words[2], size)
    yield b"TCPLOCALIP", _address(words[3], size)
    yield b"TCPREMOTEPORT", _port(words[4])
    yield b"TCPLOCALPORT", _port(words[5])


def _address(text: bytes, size: int) -> bytes:
    try:
        packed = parse_address(text)
    except ValueError:
        packed = b""
    if len(packed) != size:
        raise ProxyError(MALFORMED, "PROXY line has an invalid address")
    return address_text(packed)


def _port(text: bytes) -> bytes:
    if not (text.isdigit() and len(text) <= 5 and int(text) < 65536 and (text == b"0" or text[:1] != b"0")):
        raise ProxyError(MALFORMED, "PROXY line has an invalid port")
    return text


def _parse_binary(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    _, version_command, family_transport, _ = _FIXED.unpack_from(data)
    command = version_command & 15
    if command == _LOCAL:
        return
    if command != _PROXIED:
        raise ProxyError(MALFORMED, "PROXY header with an unknown command")
    family, transport = family_transport >> 4, family_transport & 15
    if family > _UNIX or transport > _DATAGRAM:
        raise ProxyError(MALFORMED, "PROXY header of an unknown family or transport")
    if _UNSPECIFIED in (family, transport):
        return
    if transport != _STREAM:
        raise ProxyError(UNSUPPORTED, "PROXY header for datagrams")
    body = data[_FIXED.size :]
    size = {_IP4: 12, _IP6: 36, _UNIX: 216}[family]
    if len(body) < size:
        raise ProxyError(MALFORMED, "PROXY header is too short for its addresses")
    yield from _unix_endpoints(body) if family == _UNIX else _ip_endpoints(body[:size])
    _check_sum(data, _FIXED.size + size)
    for kind, value in _records(body[size:]):
        if kind == _ALPN:
            yield b"SSL_ALPN", _text(value)
        elif kind == _AUTHORITY:
            yield b"SSL_TLS_SNI_SERVERNAME", _text(value)
        elif kind == _SSL:
            yield from _ssl_variables(value)


def _ip_endpoints(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    size = (len(body) - 4) // 2
    ports = struct.unpack_from("!HH", body, 2 * size)
    yield b"PROTO", b"TCP"
    yield b"TCPREMOTEIP", address_text(body[:size])
    yield b"TCPLOCALIP", address_text(body[size : 2 * size])
    yield b"TCPREMOTEPORT", b"%d" % ports[0]
    yield b"TCPLOCALPORT", b"%d" % ports[1]


def _unix_endpoints(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    yield b"PROTO", b"IPC"
    yield b"IPCREMOTEPATH", body[:108].partition(b"\0")[0]
    yield b"IPCLOCALPATH", body[108:216].partition(b"\0")[0]


def _check_sum(data: bytes, start: int) -> None:
    """Verify the checksum if there is one: CRC32c of the whole header with the sum itself as zeros."""
    position = start
    for kind, value in _records(data[start:]):
        position += 3 + len(value)
        if kind == _CRC32C:
            import google_crc32c

            if len(value) != 4:
                raise ProxyError(MALFORMED, "PROXY header has a checksum of the wrong length")
            blank = data[: position - 4] + bytes(4) + data[position:]
            if google_crc32c.value(blank) != int.from_bytes(value, "big"):
                raise ProxyError(MALFORMED, "PROXY header does not match its checksum")


def _ssl_variables(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(value) < _ABOUT_SSL.size:
        raise ProxyError(MALFORMED, "PROXY header has too short a record about TLS")
    client, not_verified = _ABOUT_SSL.unpack_from(value)
    for kind, text in _records(value[_ABOUT_SSL.size :]):
        name = _SSL_TEXTS.get(kind)
        if name and client & _CLIENT_USED_SSL and not (not_verified and name == b"SSL_PEER_CERT_CN"):
            yield name, _text(text)


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        value = start + 3
        end = value + int.from_bytes(data[start + 1 : value], "big")
        if len(data) < end:
            raise ProxyError(MALFORMED, "PROXY header has a record that goes beyond its end")
        yield data[start], data[value:end]
        start = end


def _text(value: bytes) -> bytes:
    if b"\0" in value or len(value) > _LONGEST_TEXT:
        raise ProxyError(MALFORMED, "PROXY header has a text with NUL or of more than 255 bytes")
    return value
