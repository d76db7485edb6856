"""A whole rule set in memory: what every audit starts from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import refuse
from s6tls.accessrules.fs import DirectoryBackend
from s6tls.accessrules.ruleset import open_backend
from s6tls.audit.progress import Progress, counted, silent
from s6tls.audit.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from s6tls.accessrules.rule import Env, Fault, Rule
    from s6tls.accessrules.ruleset import AnyBackend
    from s6tls.audit.networks import Family

__all__ = ["Contents"]


@dataclass
class Contents:
    """The rules of a rule set by their keys (``b"ip4/10.0.0.0_8"``), in its order.

    Rules are *settled*: of several changes to one variable only the last is kept, and changes are in the order
    of their names.  So two rules decide equally when they are equal, and ``None`` stands for no rule, no decision.

    `mode` are the permissions of the file or directory that they were read from.
    """

    rules: dict[bytes, Rule]
    is_tree: bool = False
    mode: int = 0o600
    _spaces: dict[Family, Space] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | bytes, *, progress: Progress = silent, fault: Fault = refuse) -> Contents:
        """Open a rule set and read all of it: a directory as a tree, anything else as a cdb; see `read`."""
        with opened(path) as backend:
            return cls.read(backend, progress=progress, fault=fault)

    @classmethod
    def read(cls, backend: AnyBackend, *, progress: Progress = silent, fault: Fault = refuse) -> Contents:
        """Read all of an open rule set.

        A rule that cannot be read, or that lookups would find malformed, is told to `fault` with its key and left out;
        without `fault` it raises.  Raises OSError or RuleSetError if the set cannot be read as a whole.
        """
        rules = counted(backend.rules(fault), "rules read", progress)
        return cls.of(rules, is_tree=isinstance(backend, DirectoryBackend), mode=backend.mode)

    @classmethod
    def of(cls, rules: Iterable[tuple[bytes, Rule]], *, is_tree: bool = False, mode: int = 0o600) -> Contents:
        """Keep rules that are at hand; of several with one key, the first."""
        settled: dict[Rule, Rule] = {}
        kept: dict[bytes, Rule] = {}
        for key, rule in rules:
            known = settled.get(rule)
            if known is None:
                known = settled[rule] = _settle(rule)
                known = settled.setdefault(known, known)
            kept.setdefault(key, known)
        return cls(kept, is_tree, mode)

    def space(self, family: Family, progress: Progress = silent) -> Space:
        """Return which rule decides each address of a family; made once, so `rules` must not change any more."""
        if family not in self._spaces:
            self._spaces[family] = Space(self.rules, family, progress=progress)
        return self._spaces[family]


def opened(path: str | bytes) -> AbstractContextManager[AnyBackend]:
    """Open a rule set for one audit, which sees it as it is now: of a cdb, a copy in memory.

    A tree is the one that is there now, whatever takes its place; files in it may still change while it is read.
    Raises OSError or RuleSetError.
    """
    return contextlib.closing(open_backend(path, private=True))


def settled_env(env: Env) -> Env:
    """Return what several changes to the environment come to: one for each variable, in the order of their names."""
    return tuple(sorted(dict(env).items()))


def _settle(rule: Rule) -> Rule:
    env = settled_env(rule.env)
    return rule if env == rule.env else replace(rule, env=env)
