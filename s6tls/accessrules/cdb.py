"""Rule sets as cdb files: the backend that looks rules up in one."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

import cdbx

from s6tls.accessrules import record
from s6tls.accessrules.errors import MalformedRecord, RuleSetError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.accessrules.rule import Rule, Stamp

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_HEADER = struct.Struct("<512I")


class CdbBackend:
    """Looks rules up in a cdb file, mapped once."""

    def __init__(self, path: str | bytes, private: bool = False) -> None:
        """Map the file, or with `private` a copy of it in memory.  Raises OSError or RuleSetError."""
        descriptor = open_file(path)
        try:
            self.stamp: Stamp | None = _stamp(descriptor)
            if private:
                descriptor = _private_copy(descriptor)
            check_header(descriptor)
            self._cdb = cdbx.CDB(descriptor, mmap=True)
        except (OSError, RuleSetError):
            raise
        except Exception as error:
            raise RuleSetError(f"not a cdb file: {error}") from error
        finally:
            os.close(descriptor)  # the mapping has its own

    def close(self) -> None:
        """Let go of the file; closing twice does no harm."""
        self._cdb.close()

    def first(self, keys: Iterable[bytes]) -> tuple[bytes, Rule] | None:
        """Return the first of `keys` that names a rule, and the rule.  Raises RuleSetError."""
        key = b""
        try:
            # A client is in up to 129 networks and most have no rule: filter() asks the library with no Python between.
            for key in filter(self._cdb.__contains__, keys):
                rule = record.decode(self._cdb[key])
                if rule is not None:
                    return key, rule
        except MalformedRecord as error:
            raise MalformedRecord(f"{shown(key)}: {error}") from error
        except Exception as error:
            raise RuleSetError(f"unable to look up a rule: {error or type(error).__name__}") from error
        return None


def open_file(path: str | bytes) -> int:
    """Open a cdb file for reading; return the descriptor.  Raises OSError, or RuleSetError if it is no plain file."""
    descriptor = os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RuleSetError("not a cdb file: not a regular file")
    return descriptor


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


def _stamp(descriptor: int) -> Stamp:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _private_copy(descriptor: int) -> int:
    """Copy an open file into memory, close it, and return the copy's descriptor.  Raises OSError or RuleSetError."""
    before = _stamp(descriptor)
    copy = os.memfd_create("rules", os.MFD_CLOEXEC)
    try:
        while os.sendfile(copy, descriptor, None, 1 << 30):
            pass
        if _stamp(descriptor) != before:
            raise RuleSetError("cdb file changed while it was read")
    except BaseException:
        os.close(copy)
        raise
    os.close(descriptor)
    return copy
