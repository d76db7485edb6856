"""Rule sets as cdb files: the backend that looks rules up in one, or reads them all."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import cdbx

from s6tls.accessrules import cdbfile, record
from s6tls.accessrules.errors import MalformedRecord, RuleSetError
from s6tls.accessrules.stamp import stamp_of
from s6tls.accessrules.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.accessrules.rule import Fault, Rule
    from s6tls.accessrules.stamp import Stamp

_MOST_STEPS = 1 << 32
"""So many slots are looked at in half a minute."""


class CdbBackend:
    """Looks rules up in a cdb file, mapped once."""

    def __init__(self, descriptor: int, private: bool = False) -> None:
        """Map an open file, or with `private` a copy of it in memory.  Raises OSError or RuleSetError.

        The descriptor is this object's from now on, also if anything is raised.
        """
        self.descriptor = descriptor
        try:
            cdbfile.refuse_special(descriptor)
            status = os.fstat(descriptor)
            self.stamp: Stamp | None = stamp_of(status)
            self.mode = stat.S_IMODE(status.st_mode)
            if private:
                self.descriptor = cdbfile.private_copy(descriptor)
            cdbfile.check_header(self.descriptor)
            self._cdb = cdbx.CDB(self.descriptor, mmap=True)
        except (OSError, RuleSetError):
            os.close(self.descriptor)
            raise
        except Exception as error:
            os.close(self.descriptor)
            raise RuleSetError(f"not a cdb file: {error}") from error

    def close(self) -> None:
        """Let go of the file; closing twice does no harm."""
        self._cdb.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

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

    def rules(self, fault: Fault) -> Iterator[tuple[bytes, Rule]]:
        """Yield what lookups find, in the order of the file.  Raises OSError or RuleSetError.

        The records, read from front to back, tell the keys.  The values are looked up: of several with one key, and
        in a file whose hash tables do not fit its records, a lookup is what counts.  What lookups would find malformed
        is told to `fault`.
        """
        rules: dict[bytes, Rule | None] = {}
        longest = cdbfile.longest_walk(self.descriptor)
        for number, (key, _) in enumerate(cdbfile.records(self.descriptor), 1):
            if number * longest > _MOST_STEPS:
                raise RuleSetError("its hash tables are such that lookups of all keys would take for ever")
            try:
                value = self._cdb[key]
                rule = rules[value] if value in rules else rules.setdefault(value, record.decode(value))
            except MalformedRecord as error:
                fault(key, MalformedRecord(f"{shown(key)}: {error}"))
            except Exception as error:
                fault(key, RuleSetError(f"unable to look up {shown(key)}: {error or type(error).__name__}"))
            else:
                if rule is not None:
                    yield key, rule
