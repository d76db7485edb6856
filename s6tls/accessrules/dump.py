"""Reading a cdb file from front to back, trusting nothing in it.

Source of the format: https://cr.yp.to/cdb/cdb.txt.  A header of 256 (position, slots)
pairs is followed by the records, then by the hash tables; the first of these pairs
tells where the records end.  A record is the lengths of key and value, then both.
All numbers have 32 bits and are little-endian.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from s6tls.accessrules.cdb import check_header, open_file
from s6tls.accessrules.errors import MalformedRecord
from s6tls.accessrules.record import MAX_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KEY = 255 + 1 + 255
_HEADER_SIZE = 2048
_LENGTHS = struct.Struct("<II")


def records(cdbfile: str | bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield all keys and values, duplicates included, in the order of the file.

    Takes time in proportion to the file, and memory for one record.  Raises OSError, RuleSetError
    if the file is no cdb, and MalformedRecord for a record that goes beyond the end or that no rule can have.
    """
    with open(open_file(cdbfile), "rb") as file:
        end = check_header(file.fileno())
        file.seek(_HEADER_SIZE)
        position = _HEADER_SIZE
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
