"""What we read of TLS's own format: where records end, and the server name and the ticket in a ClientHello.

A record (RFC 8446, 5.1) has a header of five bytes, the last two of which say how long the rest is.  The library
tells the name that a client asks for (RFC 8446, 4.1.2; RFC 6066, 3).  But when a TLS 1.2 session resumes, it tells the
name of that session instead.  It shows no ticket (RFC 8446, 4.2.11).  Nothing else is read here, and nothing is
checked: the library does that.
"""

from __future__ import annotations

import io

_HEADER = 5
_HANDSHAKE, _CLIENT_HELLO = 22, b"\1"
_SERVER_NAME, _PRE_SHARED_KEY = b"\0\0", b"\0\x29"
_HOST_NAME = 0


class Boundaries:
    """Follows the records of a stream that comes in pieces."""

    __slots__ = ("_header", "_missing")

    def __init__(self) -> None:
        self._header = b""
        self._missing = 0

    @property
    def within(self) -> bool:
        """Whether the stream stands within a record."""
        return bool(self._header or self._missing)

    def pass_over(self, data: bytes, most: int) -> int:
        """Pass over `data`, but not beyond the end of `most` records; return how many bytes that is."""
        position, size = 0, len(data)
        while position < size and most:
            if not self._missing:
                header = self._header + data[position : position + _HEADER - len(self._header)]
                position += len(header) - len(self._header)
                if len(header) < _HEADER:
                    self._header = header
                    break
                self._header, self._missing = b"", header[3] << 8 | header[4]
            step = min(self._missing, size - position)
            position += step
            self._missing -= step
            most -= not self._missing
        return position


def server_name(said: bytes) -> bytes:
    """Return the host name asked for in the first bytes of a client, b"" if there is none.

    Raises ValueError when there is no whole ClientHello.
    """
    names = io.BytesIO(_listed(_extension(said, _SERVER_NAME)))
    while entry := names.read(1):
        name = _vector(names, 2)
        if entry[0] == _HOST_NAME:
            return name
    return b""


def ticket(said: bytes) -> bytes:
    """Return the first ticket that a client of TLS 1.3 shows in its first bytes, b"" if there is none.

    Raises ValueError when there is no whole ClientHello.
    """
    identities = _listed(_extension(said, _PRE_SHARED_KEY))
    return _vector(io.BytesIO(identities), 2) if identities else b""


def _extension(said: bytes, wanted: bytes) -> bytes:
    """Return what a client says in an extension, b"" if it has none of that kind.  Raises ValueError."""
    message = io.BytesIO(_first_message(io.BytesIO(said)))
    message.read(2 + 32)  # version, random
    for length in (1, 2, 1):  # session id, cipher suites, compression methods
        _vector(message, length)
    extensions = io.BytesIO(_vector(message, 2)) if message.tell() < len(message.getvalue()) else io.BytesIO()
    while kind := extensions.read(2):
        data = _vector(extensions, 2)
        if kind == wanted:
            return data
    return b""


def _listed(data: bytes) -> bytes:
    """Return the list that an extension begins with.  Raises ValueError."""
    return _vector(io.BytesIO(data), 2) if data else b""


def _first_message(records: io.BytesIO) -> bytes:
    """Put the first handshake message together from the records that it is cut into."""
    message = b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4]):
        header = records.read(3)
        if header[:1] != bytes([_HANDSHAKE]):
            raise ValueError("no whole handshake message")
        message += _vector(records, 2)
    if message[:1] != _CLIENT_HELLO:
        raise ValueError("no ClientHello")
    return message[4 : 4 + int.from_bytes(message[1:4])]


def _vector(stream: io.BytesIO, length: int) -> bytes:
    """Read a vector, whose size stands before it in `length` bytes.  Raises ValueError."""
    size = stream.read(length)
    data = stream.read(int.from_bytes(size))
    if len(size) < length or len(data) < int.from_bytes(size):
        raise ValueError("a vector is cut short")
    return data
