"""Plain lists of networks: one address or ADDRESS/LENGTH a line, comments behind ``#`` or ``;``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family, cidrs
from s6tls.audit.formats.entries import (
    Parsed,
    Statements,
    clean,
    faults_of,
    network,
    networks_of,
    plain_rule,
    sound,
    widest_first,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.networks import Range
    from s6tls.audit.formats.entries import Diagnostic

__all__ = ["parse", "write"]


def parse(data: bytes, *, allow: bool = True, mask_host_bits: bool = False) -> Parsed:
    """Read a list whose networks are all allowed, or all denied.  Raises BadText."""
    statements, faults = _said(data, allow=allow, mask_host_bits=mask_host_bits)
    return sound(widest_first(statements, statements.comments), faults)


def statements(data: bytes) -> Statements:
    """Return what the lines of a list say, one after the other.  Raises BadText."""
    statements, faults = _said(data)
    sound(widest_first(statements), faults)
    return statements


def _said(data: bytes, *, allow: bool = True, mask_host_bits: bool = False) -> tuple[Statements, list[Diagnostic]]:
    statements = Statements()
    rule = plain_rule(allow)

    def take(number: int, line: str) -> None:
        text, note = parts(line)
        if text:
            statements.say([network(text, mask_host_bits=mask_host_bits)], rule, number, clean(note))
        elif note:
            statements.comment(note)

    faults = faults_of(data, take)
    return statements, faults


def parts(line: str) -> tuple[str, str]:
    """Return a line without its comment, and the comment behind ``#`` or ``;``."""
    text, note, *_ = *re.split("[#;]", line, maxsplit=1), ""
    return text.strip(), note


def write(loaded: LoadedRules, *, allow: bool = True, families: Collection[Family] = tuple(Family)) -> str:
    """Return the fewest networks whose addresses are allowed, or, without `allow`, are not: denied or undecided.

    Raises Unsayable.
    """
    networks_of(loaded)
    return "".join(f"{line}\n" for family in families for line in cidrs(family, clients(loaded, family, allow)))


def clients(loaded: LoadedRules, family: Family, allow: bool) -> list[Range]:
    """Return the addresses that are allowed, or, without `allow`, are not, in order."""
    partition = loaded.partition(family)
    ranges = []
    for start, end, index in partition.intervals():
        rule = partition.rule(index)
        if (rule is not None and rule.allow) is allow:
            ranges.append((start, end))
    return ranges


def halves(network: str) -> list[str]:
    """Return a network, or the two halves of all of a family, for programs that take no prefix of length 0."""
    return {"0.0.0.0/0": ["0.0.0.0/1", "128.0.0.0/1"], "::/0": ["::/1", "8000::/1"]}.get(network, [network])
