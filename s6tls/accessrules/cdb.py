"""Rule sets as cdb files: the backend that looks rules up in one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cdbx

from s6tls.accessrules import record
from s6tls.accessrules.errors import MalformedRecord, RuleSetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.accessrules.rule import Rule

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class CdbBackend:
    """Looks rules up in a cdb file, mapped once."""

    def __init__(self, path: str | bytes, private: bool = False) -> None:
        """Map the file, or with `private` a copy of it in memory.  Raises OSError or RuleSetError."""
        descriptor = os.open(path, _READ)
        try:
            status = os.fstat(descriptor)
            self.stamp: tuple[int, int, int, int, int] | None = (
                status.st_dev,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
            if private:
                descriptor = _private_copy(descriptor)
            self._cdb = cdbx.CDB(descriptor, mmap=True)
        except OSError:
            raise
        except Exception as error:
            raise RuleSetError(f"not a cdb file: {error}") from error
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the file; closing twice does no harm."""
        self._cdb.close()

    def first(self, keys: Iterable[bytes]) -> tuple[bytes, Rule] | None:
        """Return the first of `keys` that names a rule, and the rule.  Raises RuleSetError."""
        get = self._cdb.get
        for key in keys:
            try:
                value = get(key)
                rule = record.decode(value) if value is not None else None
            except MalformedRecord as error:
                raise MalformedRecord(f"{key!r}: {error}") from error
            except Exception as error:
                raise RuleSetError(f"unable to look up {key!r}: {error}") from error
            if rule is not None:
                return key, rule
        return None


def _private_copy(descriptor: int) -> int:
    """Copy an open file into memory, close it, and return the copy's descriptor.  Raises OSError."""
    copy = os.memfd_create("rules", os.MFD_CLOEXEC)
    try:
        while os.sendfile(copy, descriptor, None, 1 << 30):
            pass
    except BaseException:
        os.close(copy)
        raise
    os.close(descriptor)
    return copy
