"""How decisions are put to people and machines: the same words in every audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from s6tls.accessrules.rule import Rule

    Json = dict[str, Any]


def text(raw: bytes) -> str:
    """Return bytes as text; what is not UTF-8 stands as an escape."""
    return raw.decode("utf-8", "backslashreplace")


def verdict(rule: Rule | None) -> str:
    """Return ``allow``, ``deny`` or ``notfound``."""
    return "notfound" if rule is None else "allow" if rule.allow else "deny"


def decision(key: bytes | None, rule: Rule | None) -> Json:
    """Return a decision as JSON has it.

    ``{"verdict": "allow", "rule": "ip4/10.0.0.0_8", "env": {"set": {"ROLE": "staff"}, "unset": []}, "exec": null}``
    """
    env = () if rule is None else rule.env
    return {
        "verdict": verdict(rule),
        "rule": None if key is None else text(key),
        "env": {
            "set": {text(name): text(value) for name, value in env if value is not None},
            "unset": [text(name) for name, value in env if value is None],
        },
        "exec": text(rule.exec) if rule is not None and rule.exec else None,
    }


class Decided(NamedTuple):
    """What is decided about somebody: the deciding rule and its key, both None if there is none."""

    key: bytes | None
    rule: Rule | None

    def json(self) -> Json:
        """Return the decision as JSON has it."""
        return decision(self.key, self.rule)


def told(rule: Rule | None, key: bytes | None = None) -> str:
    """Return a verdict as people are told it: ``undecided``, ``deny``, or with the rule ``deny by ip4/10.0.0.0_8``."""
    word = "undecided" if rule is None else verdict(rule)
    return word if key is None else f"{word} by {text(key)}"


def summary(rule: Rule | None, key: bytes | None = None) -> str:
    """Return a decision in one line: ``allow by ip4/10.0.0.0_8 ROLE=staff -DEBUG exec: echo hello``."""
    words = [told(rule, key)]
    if rule is not None:
        words += [f"-{text(name)}" if value is None else f"{text(name)}={text(value)}" for name, value in rule.env]
        if rule.exec:
            words.append(f"exec: {' '.join(text(rule.exec).split())}")
    return " ".join(words)
