"""cdb files as files: opened, checked, copied, and read from front to back, trusting nothing in them.

Source of the format: https://cr.yp.to/cdb/cdb.txt.  A header of 256 (position, slots)
pairs is followed by the records, then by the hash tables; the first of these pairs
tells where the records end.  A record is the lengths of key and value, then both.
All numbers have 32 bits and are little-endian.

All that is known of a file comes through one descriptor, so that a compiler's rename shows nobody two files as one.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from array import array
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import MalformedRecord, RuleSetError
from s6tls.accessrules.record import MAX_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
MAX_KEY = 255 + 1 + 255
_HEADER = struct.Struct("<512I")
_LENGTHS = struct.Struct("<II")


def open_file(path: str | bytes) -> int:
    """Open a cdb file for reading; return the descriptor.  Raises OSError, or RuleSetError if it is no plain file."""
    descriptor = os.open(path, READ)
    try:
        refuse_special(descriptor)
    except RuleSetError:
        os.close(descriptor)
        raise
    return descriptor


def refuse_special(descriptor: int) -> None:
    """Raise RuleSetError unless a plain file is open."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise RuleSetError("not a cdb file: not a regular file")


def check_header(descriptor: int) -> int:
    """Make sure that all hash tables lie within the file, and return where its records end.

    Raises OSError, or RuleSetError if a table is out of bounds.

    The library checks each access to the file by itself (cdbx 0.3.0, cdb32_read_map), but
    believes the length of a hash table: one of 2**32 - 1 slots, which wrap around at
    4 GiB, would keep a single lookup busy for a minute.  Tables within the file bound
    a lookup by the file's size.
    """
    size = os.fstat(descriptor).st_size
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) != _HEADER.size:
        raise RuleSetError("not a cdb file: too short")
    if size > 0xFFFFFFFF:
        raise RuleSetError("not a cdb file: too long")
    numbers = _HEADER.unpack(header)
    for position, slots in zip(numbers[::2], numbers[1::2], strict=True):
        if slots and not _HEADER.size <= position <= size - 8 * slots:
            raise RuleSetError("not a cdb file: a hash table is out of bounds")
    end: int = numbers[0]
    if not _HEADER.size <= end <= size:
        raise RuleSetError("not a cdb file: the first hash table is out of bounds")
    return end


def longest_walk(descriptor: int) -> int:
    """Return how many slots of a hash table a lookup looks at, in the worst case: those up to the next empty one.

    In files that compilers make these are few.  Keys with one hash, which are easily found, make them as many as keys.
    Raises OSError, or RuleSetError if tables overlap.
    """
    longest, left = 0, os.fstat(descriptor).st_size
    for position, slots in struct.iter_unpack("<II", os.pread(descriptor, _HEADER.size, 0)):
        left -= 8 * slots
        if left < 0:
            raise RuleSetError("not a cdb file: its hash tables overlap")
        used = bytes(map(bool, array("I", os.pread(descriptor, 8 * slots, position))[1::2]))
        walks = used.split(b"\0")
        longest = max(longest, len(walks[0]) + len(walks[-1]), *map(len, walks))
    return longest


def records(descriptor: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield all keys and values of an open file, duplicates included, in the order of the file.

    Takes time in proportion to the file, and memory for one record.  Raises OSError, RuleSetError
    if the file is no cdb, and MalformedRecord for a record that goes beyond the end or that no rule can have.
    """
    end = check_header(descriptor)
    position = _HEADER.size
    file = io.BufferedReader(_Through(descriptor, position), 1 << 16)
    while position < end:
        lengths = file.read(_LENGTHS.size)
        if len(lengths) != _LENGTHS.size:
            raise MalformedRecord("record beyond the end of the cdb file")
        key_length, value_length = _LENGTHS.unpack(lengths)
        position += _LENGTHS.size + key_length + value_length
        if position > end:
            raise MalformedRecord("record beyond the end of the cdb file")
        if key_length > MAX_KEY or value_length > MAX_VALUE:
            raise MalformedRecord("record is too long")
        key, value = file.read(key_length), file.read(value_length)
        if len(key) != key_length or len(value) != value_length:
            raise MalformedRecord("record beyond the end of the cdb file")
        yield key, value


class _Through(io.RawIOBase):
    """Reads what is open at a descriptor from a place of its own, and does not close it."""

    def __init__(self, descriptor: int, position: int) -> None:
        self._descriptor, self._position = descriptor, position

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count


def private_copy(descriptor: int) -> int:
    """Copy an open file into memory as far as its header says that it goes, close it, and return the copy's descriptor.

    The header has been checked.  Raises OSError, or RuleSetError if the file is written to meanwhile; it is then still
    open.  That another file takes
    its name does no harm.
    """
    before = _written(descriptor)
    copy = os.memfd_create("rules", os.MFD_CLOEXEC)
    try:
        numbers = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
        left = max(numbers[0], *(start + 8 * slots for start, slots in zip(numbers[::2], numbers[1::2], strict=True)))
        while left and (copied := os.sendfile(copy, descriptor, None, left)):
            left -= copied
        if _written(descriptor) != before:
            raise RuleSetError("cdb file changed while it was read")
    except BaseException:
        os.close(copy)
        raise
    os.close(descriptor)
    return copy


def _written(descriptor: int) -> tuple[int, int]:
    """Return what changes when a file is written to, and does not when its links or permissions change."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns
