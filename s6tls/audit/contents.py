"""A whole rule set in memory: what every audit starts from."""

from __future__ import annotations

import os
import stat
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import cdbx

from s6tls.accessrules import dump, record
from s6tls.accessrules.cdb import check_header, open_file
from s6tls.accessrules.compile import read_tree, refuse
from s6tls.accessrules.errors import MalformedRecord, RuleSetError, shown
from s6tls.audit.progress import Progress, counted, silent
from s6tls.audit.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.accessrules.rule import Env, Rule
    from s6tls.audit.networks import Family

    Fault = Callable[[bytes, RuleSetError], None]

_MOST_STEPS = 1 << 32
"""So many slots are looked at in half a minute."""


@dataclass
class Contents:
    """The rules of a rule set by their keys (``b"ip4/10.0.0.0_8"``), in its order.

    Rules are *settled*: of several changes to one variable only the last is kept, and changes are in the order
    of their names.  So two rules decide equally when they are equal, and ``None`` stands for no rule, no decision.
    """

    rules: dict[bytes, Rule]
    is_tree: bool = False
    _spaces: dict[Family, Space] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | bytes, *, progress: Progress = silent, fault: Fault | None = None) -> Contents:
        """Read a rule set: a directory as a tree, anything else as a cdb.

        A rule that cannot be read, or that lookups would find malformed, is told to `fault` with its key and left out;
        without `fault` it raises.  Raises OSError or RuleSetError if the set cannot be read as a whole.
        """
        return cls.of(counted(read_rules(path, fault), "rules read", progress), is_tree=is_tree(path))

    @classmethod
    def of(cls, rules: Iterable[tuple[bytes, Rule]], *, is_tree: bool = False) -> Contents:
        """Keep rules that are at hand; of several with one key, the first."""
        settled: dict[Rule, Rule] = {}
        kept: dict[bytes, Rule] = {}
        for key, rule in rules:
            known = settled.get(rule)
            if known is None:
                known = settled[rule] = _settle(rule)
                known = settled.setdefault(known, known)
            kept.setdefault(key, known)
        return cls(kept, is_tree)

    def space(self, family: Family, progress: Progress = silent) -> Space:
        """Return which rule decides each address of a family; made once, so `rules` must not change any more."""
        if family not in self._spaces:
            self._spaces[family] = Space(self.rules, family, progress=progress)
        return self._spaces[family]


def is_tree(path: str | bytes) -> bool:
    """Tell whether a rule set is a directory tree, else it is a cdb.  Raises OSError."""
    return stat.S_ISDIR(os.stat(path).st_mode)


def read_rules(path: str | bytes, fault: Fault | None = None) -> Iterator[tuple[bytes, Rule]]:
    """Yield the rules of a set, as they are, with their keys; `fault`, and what is raised, is as in `Contents.load`."""
    return read_tree(path, fault) if is_tree(path) else _read_cdb(path, fault or refuse)


def settled_env(env: Env) -> Env:
    """Return what several changes to the environment come to: one for each variable, in the order of their names."""
    return tuple(sorted(dict(env).items()))


def _settle(rule: Rule) -> Rule:
    env = settled_env(rule.env)
    return rule if env == rule.env else replace(rule, env=env)


def _read_cdb(path: str | bytes, fault: Fault) -> Iterator[tuple[bytes, Rule]]:
    """Yield what lookups in a cdb find, in the order of the file.  Raises OSError or RuleSetError.

    The records, read from front to back, tell the keys.  The values are looked up: of several with one key, and
    in a file whose hash tables do not fit its records, a lookup is what counts.
    """
    rules: dict[bytes, Rule | None] = {}
    descriptor = open_file(path)
    try:
        check_header(descriptor)
        longest = _longest_walk(descriptor)
        cdb = cdbx.CDB(descriptor, mmap=True)
    except (OSError, RuleSetError):
        raise
    except Exception as error:
        raise RuleSetError(f"not a cdb file: {error}") from error
    finally:
        os.close(descriptor)
    try:
        for number, (key, _) in enumerate(dump.records(path), 1):
            if number * longest > _MOST_STEPS:
                raise RuleSetError("its hash tables are such that lookups of all keys would take for ever")
            try:
                value = cdb[key]
                rule = rules[value] if value in rules else rules.setdefault(value, record.decode(value))
            except MalformedRecord as error:
                fault(key, MalformedRecord(f"{shown(key)}: {error}"))
            except Exception as error:
                fault(key, RuleSetError(f"unable to look up {shown(key)}: {error or type(error).__name__}"))
            else:
                if rule is not None:
                    yield key, rule
    finally:
        cdb.close()


def _longest_walk(descriptor: int) -> int:
    """Return how many slots of a hash table a lookup looks at, in the worst case: those up to the next empty one.

    In files that compilers make these are few.  Keys with one hash, which are easily found, make them as many as keys.
    """
    longest, left = 0, os.fstat(descriptor).st_size
    for position, slots in struct.iter_unpack("<II", os.pread(descriptor, 2048, 0)):
        left -= 8 * slots
        if left < 0:
            raise RuleSetError("not a cdb file: its hash tables overlap")
        used = bytes(map(bool, array("I", os.pread(descriptor, 8 * slots, position))[1::2]))
        walks = used.split(b"\0")
        longest = max(longest, len(walks[0]) + len(walks[-1]), *map(len, walks))
    return longest
