"""How decisions are put to people and machines: the same words in every audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from s6tls.accessrules.text import decoded

if TYPE_CHECKING:
    from s6tls.accessrules.rule import Rule

    Json = dict[str, Any]


def verdict(rule: Rule | None) -> str:
    """Return ``allow``, ``deny`` or ``notfound``."""
    return "notfound" if rule is None else "allow" if rule.allow else "deny"


def decision_json(key: bytes | None, rule: Rule | None) -> Json:
    """Return a decision as JSON has it.

    ``{"verdict": "allow", "rule": "ip4/10.0.0.0_8", "env": {"set": {"ROLE": "staff"}, "unset": []}, "exec": null}``
    """
    env = () if rule is None else rule.env
    return {
        "verdict": verdict(rule),
        "rule": None if key is None else decoded(key),
        "env": {
            "set": {decoded(name): decoded(value) for name, value in env if value is not None},
            "unset": [decoded(name) for name, value in env if value is None],
        },
        "exec": decoded(rule.exec) if rule is not None and rule.exec else None,
    }


class Decided(NamedTuple):
    """What is decided about somebody: the deciding rule and its key, both None if there is none."""

    key: bytes | None
    rule: Rule | None

    def json(self) -> Json:
        """Return the decision as JSON has it."""
        return decision_json(self.key, self.rule)


def brief(rule: Rule | None, key: bytes | None = None) -> str:
    """Return a verdict as people are told it: ``undecided``, ``deny``, or with the rule ``deny by ip4/10.0.0.0_8``."""
    word = "undecided" if rule is None else verdict(rule)
    return word if key is None else f"{word} by {decoded(key)}"


def summary(rule: Rule | None, key: bytes | None = None) -> str:
    """Return a decision in one line: ``allow by ip4/10.0.0.0_8 ROLE=staff -DEBUG exec: echo hello``."""
    words = [brief(rule, key)]
    if rule is not None:
        words += [
            f"-{decoded(name)}" if value is None else f"{decoded(name)}={decoded(value)}" for name, value in rule.env
        ]
        if rule.exec:
            words.append(f"exec: {' '.join(decoded(rule.exec).split())}")
    return " ".join(words)
