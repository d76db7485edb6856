"""Where TLS records end (RFC 8446, 5.1): a header of five bytes, the last two of which say how long the rest is.

Nothing is checked here: that is the library's affair.
"""

from __future__ import annotations

_HEADER = 5


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
