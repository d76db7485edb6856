"""Verdicts, rules and decisions: what a rule set says, and what it answers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s6tls.accessrules.errors import RuleSetError

    Env = tuple[tuple[bytes, bytes | None], ...]
    Fault = Callable[[bytes, RuleSetError], object]


class Verdict(enum.Enum):
    """The four results of a lookup."""

    ALLOW = "allow"
    DENY = "deny"
    NOTFOUND = "not found"
    ERROR = "error"


@dataclass(frozen=True)
class Rule:
    """What one rule says.

    `env` and `exec` are empty unless `allow` is true.  A variable whose value is None is to be unset.
    """

    allow: bool
    env: Env = ()
    exec: bytes = b""


# Most rules are one of these two, and whoever reads 50,000 of them is glad not to make 50,000 objects.
ALLOW = Rule(True)
DENY = Rule(False)


@dataclass(frozen=True)
class Decision:
    """The answer to one question.

    `rule` is the key of the rule that decided (``b"ip4/10.0.0.0_8"``), or None when none did.
    `env` lists changes to the environment in order, None standing for "unset"; `exec` is an
    execlineb text, b"" when the rule has none.  `error` says what went wrong, for Verdict.ERROR only.
    """

    verdict: Verdict
    rule: bytes | None = None
    env: Env = ()
    exec: bytes = b""
    error: str = ""

    def apply_env(self, env: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return `env` after this decision's changes."""
        changed = dict(env)
        for name, value in self.env:
            if value is None:
                changed.pop(name, None)
            else:
                changed[name] = value
        return changed


NOTFOUND = Decision(Verdict.NOTFOUND)
