"""Whom the kernel may refuse: the clients that a server refuses whatever else it knows about them.

A client that a rule by address denies is refused for good.  One that no such rule decides may still be allowed by its
name; only a server that asks for no names (``-H``), or has no rule that allows one, refuses all of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.keys import BY_NAME
from s6tls.audit.core.networks import Family, joined
from s6tls.audit.formats.entries import MAPPED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.networks import Range

Denied = dict[Family, list[tuple[int, int]]]
"""Ranges of addresses of each family, in order, that do not touch: the first, and the one behind the last."""


def denied(loaded: LoadedRules, *, undecided: bool = False) -> Denied:
    """Return the addresses that are denied, or with `undecided` not allowed: ranges in order that do not touch.

    The IPv6 addresses that stand for IPv4 ones are left out: such a client is the IPv4 client.
    """
    return {family: list(joined(_unmapped(family, _refused(loaded, family, undecided)))) for family in Family}


def _refused(loaded: LoadedRules, family: Family, undecided: bool) -> Iterator[Range]:
    partition = loaded.partition(family)
    for start, end, index in partition.intervals():
        rule = partition.rule(index)
        if undecided if rule is None else not rule.allow:
            yield start, end


def _unmapped(family: Family, ranges: Iterator[Range]) -> Iterator[Range]:
    first, last = MAPPED.range
    for start, end in ranges:
        if family is Family.IP4 or end <= first or start >= last:
            yield start, end
            continue
        if start < first:
            yield start, first
        if last < end:
            yield last, end


def allows_names(loaded: LoadedRules) -> bool:
    """Tell whether a rule by name allows anybody."""
    return any(rule.allow and key.startswith(BY_NAME) for key, rule in loaded.rules.items())
