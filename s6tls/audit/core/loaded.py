"""A whole rule set in memory: what every audit starts from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import refuse
from s6tls.accessrules.ruleset import open_backend
from s6tls.accessrules.tree import DirectoryBackend
from s6tls.audit.core.networks import Family
from s6tls.audit.core.partition import IntervalIndex, Partition
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.core.wording import Decided

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from s6tls.accessrules.rule import Env, Fault, Rule
    from s6tls.accessrules.ruleset import AnyBackend


@dataclass
class LoadedRules:
    """The rules of a rule set by their keys (``b"ip4/10.0.0.0_8"``), in its order.

    Rules are *normalised*: of several changes to one variable only the last is kept, and changes are in the order
    of their names.  So two rules decide equally when they are equal, and ``None`` stands for no rule, no decision.

    `mode` are the permissions of the file or directory that they were read from.
    """

    rules: dict[bytes, Rule]
    is_tree: bool = False
    mode: int = 0o600
    _partitions: dict[Family, Partition] = field(default_factory=dict, init=False, repr=False, compare=False)
    _indexes: dict[Family, IntervalIndex] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | bytes, *, progress: Progress = silent, fault: Fault = refuse) -> LoadedRules:
        """Open a rule set and read all of it: a directory as a tree, anything else as a cdb; see `read`."""
        with opened(path) as backend:
            return cls.read(backend, progress=progress, fault=fault)

    @classmethod
    def read(cls, backend: AnyBackend, *, progress: Progress = silent, fault: Fault = refuse) -> LoadedRules:
        """Read all of an open rule set.

        A rule that cannot be read, or that lookups would find malformed, is told to `fault` with its key and left out;
        without `fault` it raises.  Raises OSError or RuleSetError if the set cannot be read as a whole.
        """
        rules = counted(backend.rules(fault), "rules read", progress)
        return cls.of(rules, is_tree=isinstance(backend, DirectoryBackend), mode=backend.mode)

    @classmethod
    def of(cls, rules: Iterable[tuple[bytes, Rule]], *, is_tree: bool = False, mode: int = 0o600) -> LoadedRules:
        """Keep rules that are at hand; of several with one key, the first."""
        normalised: dict[Rule, Rule] = {}
        kept: dict[bytes, Rule] = {}
        for key, rule in rules:
            known = normalised.get(rule)
            if known is None:
                known = normalised[rule] = _normalised(rule)
                known = normalised.setdefault(known, known)
            kept.setdefault(key, known)
        return cls(kept, is_tree, mode)

    def partition(self, family: Family, progress: Progress = silent) -> Partition:
        """Return which rule decides each address of a family; made once, so `rules` must not change any more."""
        if family not in self._partitions:
            self._partitions[family] = Partition(self.rules, family, progress=progress)
        return self._partitions[family]

    def interval_index(self, family: Family, progress: Progress = silent) -> IntervalIndex:
        """Return what finds the rule that decides an address of a family; made once, as `partition` is."""
        if family not in self._indexes:
            self._indexes[family] = IntervalIndex(self.partition(family, progress))
        return self._indexes[family]

    def decide(self, packed: bytes) -> Decided:
        """Return what is decided about an address of 4 or 16 bytes."""
        family = Family.of(packed)
        partition = self.partition(family)
        index = self.interval_index(family).rule_at(int.from_bytes(packed, "big"))
        return Decided(partition.key(index), partition.rule(index))


def opened(path: str | bytes) -> AbstractContextManager[AnyBackend]:
    """Open a rule set for one audit, which sees it as it is now: of a cdb, a copy in memory.

    A tree is the one that is there now, whatever takes its place; files in it may still change while it is read.
    Raises OSError or RuleSetError.
    """
    return contextlib.closing(open_backend(path, private=True))


def normalised_env(env: Env) -> Env:
    """Return what several changes to the environment come to: one for each variable, in the order of their names."""
    return tuple(sorted(dict(env).items()))


def _normalised(rule: Rule) -> Rule:
    env = normalised_env(rule.env)
    return rule if env == rule.env else replace(rule, env=env)
