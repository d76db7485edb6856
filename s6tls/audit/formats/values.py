"""What the value of a table's line means: tables of nginx and HAProxy, whose values are words of their owner's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.audit.formats.entries import LineError, plain_rule

if TYPE_CHECKING:
    from collections.abc import Collection

    from s6tls.accessrules.rule import Rule


def rule_of(value: str, allow: bool, values: Collection[str]) -> Rule:
    """Return the rule for clients that have a value: `allow` if it is one of `values`, and the other verdict if not.

    Without `values` it is true or false as both programs have it: ``1``, or ``0`` and nothing.  Raises LineError for
    any other value then.
    """
    if values:
        return plain_rule(allow is (value in values))
    if value not in ("1", "0", ""):
        raise LineError(f"the value is neither 0 nor 1, and none is named: {value[:40]!r}")
    return plain_rule(allow is (value == "1"))
