"""Who gets in, and why: the probes of one client, and the rule that decides."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from s6tls.accessrules import RuleSet, keys
from s6tls.accessrules.errors import RuleSetError
from s6tls.accessrules.rule import Rule, Verdict
from s6tls.accessrules.ruleset import open_backend
from s6tls.accessrules.text import decoded
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import normalised_env

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.accessrules.rule import Decision
    from s6tls.audit.core.wording import Json


@dataclass(frozen=True)
class Explanation:
    """What a rule set says about a client.

    `probes` are the keys that were looked up, in order; the last is that of the deciding rule, if there is one.
    Of several changes of the `decision` to one variable only the last is kept.
    `needs_name` says that no rule by address decides, that no name was given, and that there are rules by name.
    """

    address: str
    name: str | None
    probes: tuple[bytes, ...]
    decision: Decision
    needs_name: bool

    @property
    def rule(self) -> Rule | None:
        """The deciding rule."""
        decision = self.decision
        if decision.rule is None:
            return None
        return Rule(decision.verdict is Verdict.ALLOW, decision.env, decision.exec)

    def json(self) -> Json:
        """Return the explanation as JSON has it."""
        decided = wording.decision_json(self.decision.rule, self.rule)
        return {
            "address": self.address,
            "verdict": decided["verdict"],
            "rule": decided["rule"],
            "probes": [decoded(key) for key in self.probes],
            "env": decided["env"],
            "exec": decided["exec"],
            "needs_name": self.needs_name,
        }


class Explainer:
    """Explains one client after the other, from a rule set that is opened once."""

    def __init__(self, path: str | bytes) -> None:
        """Open a rule set in either form.  Raises OSError or RuleSetError."""
        self._backend = open_backend(path)
        self._rules = RuleSet(self._backend)
        self._has_names: bool | None = None

    def close(self) -> None:
        """Let go of the rule set."""
        self._rules.close()

    def explain(self, address: str | bytes, name: str | bytes | None = None) -> Explanation:
        """Explain what happens to a client with this address and, if it is known, this host name.

        Raises AddressError, and RuleSetError where a lookup fails.
        """
        packed = keys.client_address(address)
        probes: Iterable[bytes] = keys.ip4_keys(packed) if len(packed) == 4 else keys.ip6_keys(packed)
        decision = self._rules.check_address(address)
        if decision.verdict is Verdict.NOTFOUND and name is not None:
            decision = self._rules.check_name(name)
            probes = chain(probes, keys.name_keys(os.fsencode(name)))
        if decision.verdict is Verdict.ERROR:
            raise RuleSetError(decision.error)
        needs_name = decision.verdict is Verdict.NOTFOUND and name is None and self._names_matter()
        shown_name = None if name is None else decoded(os.fsencode(name))
        made = tuple(_up_to(decision.rule, probes))
        decision = replace(decision, env=normalised_env(decision.env))
        return Explanation(keys.address_text(packed).decode(), shown_name, made, decision, needs_name)

    def _names_matter(self) -> bool:
        """Tell whether any rule goes by name, were it one that cannot be read."""
        if self._has_names is None:
            broken: list[bytes] = []
            sound = (key for key, _ in self._backend.rules(lambda key, _: broken.append(key)))
            self._has_names = any(key.startswith(keys.BY_NAME) for key in chain(sound, broken))
        return self._has_names


def _up_to(rule: bytes | None, probes: Iterable[bytes]) -> Iterator[bytes]:
    for key in probes:
        yield key
        if key == rule:
            return
