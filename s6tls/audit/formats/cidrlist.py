"""Plain lists of networks: one address or ADDRESS/LENGTH a line, comments behind ``#`` or ``;``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family, cidrs
from s6tls.audit.formats.entries import (
    Parsed,
    Statement,
    clean,
    each_line,
    first_match,
    network,
    networks_of,
    plain_rule,
)

if TYPE_CHECKING:
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.networks import Range

__all__ = ["parse", "write"]


def parse(data: bytes, *, allow: bool = True) -> Parsed:
    """Read a list whose networks are all allowed, or all denied.  Raises BadText."""
    return first_match(sorted(statements(data, allow=allow), key=lambda said: said.network.length))


def statements(data: bytes, *, allow: bool = True) -> list[Statement]:
    """Return what the lines of a list say, one after the other.  Raises BadText."""
    found: list[Statement] = []
    rule = plain_rule(allow)

    def take(number: int, line: str) -> None:
        text, note, *_ = *re.split("[#;]", line, maxsplit=1), ""
        if text.strip():
            found.append(Statement(network(text.strip()), rule, number, clean(note)))

    each_line(data, take)
    return found


def write(loaded: LoadedRules, *, allow: bool = True) -> str:
    """Return the fewest networks whose addresses are allowed, or, without `allow`, are not: denied or undecided.

    Raises Unsayable.
    """
    networks_of(loaded)
    return "".join(f"{line}\n" for family in Family for line in cidrs(family, clients(loaded, family, allow)))


def clients(loaded: LoadedRules, family: Family, allow: bool) -> list[Range]:
    """Return the addresses that are allowed, or, without `allow`, are not, in order."""
    partition = loaded.partition(family)
    ranges = []
    for start, end, index in partition.intervals():
        rule = partition.rule(index)
        if (rule is not None and rule.allow) is allow:
            ranges.append((start, end))
    return ranges
