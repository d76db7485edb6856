"""The lines of a log that may be compressed, in bounded memory whatever the log holds."""

from __future__ import annotations

import io
import os
import stat
import zlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LINE_LIMIT = 1 << 20
"""Of a line longer than this only about as many bytes are kept."""

HEAD = 1 << 16
"""Of a log at least this much is looked at to guess its format."""

_BLOCK = 1 << 18
# A block of zstd data stands for up to 128 KiB and takes 4 bytes at least: this many bytes never unpack to over 64 MiB.
_PIECE = 2048
_UTF8_MARK = b"\xef\xbb\xbf"


class LogError(OSError):
    """A log is broken, or is not what it is said to be; the message says how."""


def pieces(path: bytes, least: int = 1) -> Iterator[bytes]:
    """Yield what a file holds, unpacked, a piece at a time; ``-`` is stdin.

    gzip and zstd are told by their first bytes, whatever the name of the file.  The first piece has at least `least`
    bytes, or all there are and then ends its last line; further ones are yielded as they come.
    Raises LogError if a compressed file is broken or cut short, and OSError.
    """
    with io.FileIO(0, closefd=False) if path == b"-" else io.FileIO(os.fsdecode(path)) as file:
        unpacked = _unpacked(file)
        head = bytearray()
        while len(head) < least and (piece := next(unpacked, None)) is not None:
            head += piece
        if text := bytes(head).removeprefix(_UTF8_MARK):
            yield text if len(head) >= least or text.endswith(b"\n") else text + b"\n"
        yield from unpacked


def plain_size(path: bytes) -> int | None:
    """Return how many bytes a plain file has, None for anything else.  Raises OSError."""
    status = None if path == b"-" else os.stat(path)
    return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None


def is_packed(path: bytes) -> bool:
    """Tell whether a file is one that is unpacked when it is read.  Raises OSError."""
    with io.FileIO(os.fsdecode(path)) as file:
        return file.read(4).startswith(tuple(_PACKED))


def cuts(path: bytes, size: int, parts: int) -> list[int]:
    """Return where a file of lines may be cut into about equal parts: where each begins, and last where it ends.

    Raises OSError.
    """
    places = {0, size}
    with io.FileIO(os.fsdecode(path)) as file:
        for number in range(1, parts):
            place = file.seek(size * number // parts)
            while block := file.read(1 << 16):
                found = block.find(b"\n")
                place += len(block) if found < 0 else found + 1
                if found >= 0:
                    break
            places.add(min(place, size))
    return sorted(places)


def part(path: bytes, start: int, end: int) -> Iterator[bytes]:
    """Yield what a file that is not packed holds between two places, a piece at a time.  Raises OSError."""
    with io.FileIO(os.fsdecode(path)) as file:
        at = file.seek(start)
        while at < end and (block := file.read(min(_BLOCK, end - at))):
            at += len(block)
            yield block if start or at > len(block) else block.removeprefix(_UTF8_MARK)


def line_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield many whole lines at a time, without the end of the last one.

    Of a line that is longer than `LINE_LIMIT` the end may be missing.
    """
    begun = b""
    for piece in pieces:
        whole, newline, rest = piece.rpartition(b"\n")
        if newline:
            yield begun + whole
            begun = rest
        elif len(begun) < LINE_LIMIT:
            begun += rest
    if begun:
        yield begun


class _Decoder(Protocol):
    """What decoders of gzip and of zstd have in common; each is good for one member, or frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Packing(NamedTuple):
    """How a compressed file is read; `error` is what its decoders raise."""

    name: str
    decoder: Callable[[], _Decoder]
    error: type[Exception]


def _gzip() -> _Packing:
    return _Packing("gzip", lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), zlib.error)


def _zstd() -> _Packing:
    import zstandard

    return _Packing("zstd", lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError)


_PACKED = {b"\x1f\x8b\x08": _gzip, b"\x28\xb5\x2f\xfd": _zstd, b"\x50\x2a\x4d\x18": _zstd}
"""Beginnings of compressed files; that of a zstd file may be a frame to skip."""


def _unpacked(file: io.FileIO) -> Iterator[bytes]:
    head = b""
    while len(head) < 4 and (more := file.read(4 - len(head))):
        head += more
    for magic, packing in _PACKED.items():
        if head.startswith(magic):
            yield from _decompressed(head, file, packing())
            return
    yield head + file.read(_BLOCK)
    while block := file.read(_BLOCK):
        yield block


def _decompressed(data: bytes, file: io.FileIO, packing: _Packing) -> Iterator[bytes]:
    """Decompress members, or frames, one after the other; zeros may follow each, as on tapes."""
    member: _Decoder | None = None
    taken = len(data)
    while data:
        if member is None and (data := data.lstrip(b"\0")):
            member = packing.decoder()
        if member is not None:
            try:
                unpacked = member.decompress(data)
            except packing.error as error:
                raise LogError(f"broken {packing.name} data before byte {taken}: {error}") from error
            for start in range(0, len(unpacked), _BLOCK):
                yield unpacked[start : start + _BLOCK]
            data = b""
            if member.eof:
                data, member = member.unused_data, None
        if not data:
            data = file.read(_PIECE)
            taken += len(data)
    if member is not None:
        raise LogError(f"{packing.name} data cut short at byte {taken}")
