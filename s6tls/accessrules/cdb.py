"""Rule sets as cdb files: written, and the backend that looks rules up in one, or reads them all."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import cdbx

from s6tls.accessrules import cdbfile, record
from s6tls.accessrules.atomic import replace_atomically
from s6tls.accessrules.errors import MalformedRecord, RuleSetError, UsageProblem
from s6tls.accessrules.stamp import stamp_of
from s6tls.accessrules.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s6tls.accessrules.rule import Fault, Rule
    from s6tls.accessrules.stamp import Stamp

__all__ = ["write_cdb"]

DEFAULT_MODE = 0o600
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
                cdbfile.check_header(descriptor)
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


def write_cdb(
    cdbfile: str | bytes,
    rules: Iterable[tuple[bytes, Rule]],
    *,
    mode: int = DEFAULT_MODE,
    checkpoint: Callable[[], None] = lambda: None,
    check: Callable[[bytes], None] = lambda temporary: None,
) -> None:
    """Write rules with their keys into `cdbfile`, with these permissions.

    A temporary file beside `cdbfile` takes its place at the very end; if anything is
    raised before, it goes and `cdbfile` stays as it was.
    `checkpoint` is called before each rule and before the end, and may raise to stop the work.
    `check` is called with the path of the temporary file when it is complete, and may raise to keep the old `cdbfile`.

    Raises UsageProblem if an environment is too large, RuleSetError if the rules do not fit into a cdb, and
    OSError if the file cannot be written, or if something other than a file is there.
    """
    with replace_atomically(os.fsencode(cdbfile)) as temporary:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            maker = cdbx.CDB.make(descriptor, mmap=False)
            for key, rule in rules:
                checkpoint()
                maker.add(key, _encode(key, rule))
            maker.commit()
            os.fsync(descriptor)
            check(temporary)
            os.fchmod(descriptor, mode)
        except OverflowError as error:
            raise RuleSetError("rule set does not fit into a cdb file of 4 GiB") from error
        finally:
            os.close(descriptor)
        checkpoint()


def _encode(key: bytes, rule: Rule) -> bytes:
    try:
        return record.encode(rule)
    except UsageProblem as error:
        raise UsageProblem(f"{shown(key)}: {error}") from error
