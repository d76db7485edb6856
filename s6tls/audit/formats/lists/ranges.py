"""Ranges of addresses: ``FIRST-LAST`` a line, or FIRST and LAST in two columns, among addresses and networks.

Comments are behind ``#`` or ``;``.  What stands behind two columns is a comment, too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family, Network, joined, parse_address_number, prefixes
from s6tls.audit.formats import cidrlist
from s6tls.audit.formats.entries import (
    LineError,
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

__all__ = ["parse", "write"]

_BETWEEN = re.compile(r"[ \t]*-[ \t]*")
_COLUMNS = re.compile(r"([0-9a-fA-F:.]+)(?:[ \t]*,[ \t]*|[ \t]+)([0-9a-fA-F:]*[.:][0-9a-fA-F:.]*)(?:[ \t,]+(.*))?")


def parse(data: bytes, *, allow: bool = True, mask_host_bits: bool = False) -> Parsed:
    """Read ranges whose addresses are all allowed, or all denied.  Raises BadText."""
    statements = Statements()
    rule = plain_rule(allow)

    def take(number: int, line: str) -> None:
        text, note = cidrlist.parts(line)
        if not text:
            if note:
                statements.comment(note)
            return
        columns = _COLUMNS.fullmatch(text)
        if columns:
            first, last, more = columns.groups()
            text, note = f"{first}-{last}", f"{more or ''} {note}"
        statements.say(networks_in(text, mask_host_bits=mask_host_bits), rule, number, clean(note))

    faults = faults_of(data, take)
    return sound(widest_first(statements, statements.comments), faults)


def networks_in(text: str, *, mask_host_bits: bool = False) -> list[Network]:
    """Return the networks of an address, a network or ``FIRST-LAST``.  Raises LineError and AddressError."""
    if "-" not in text:
        return [network(text, mask_host_bits=mask_host_bits)]
    family, start, end = bounds(text)
    return [Network(family, number, family.bits - free) for number, free in prefixes(start, end)]


def bounds(text: str) -> tuple[Family, int, int]:
    """Return the family, the first address of ``FIRST-LAST``, and what comes after the last.

    Raises LineError and AddressError.
    """
    first, *last = _BETWEEN.split(text, maxsplit=1)
    family, start = parse_address_number(first)
    other, end = parse_address_number(last[0] if last else first)
    if other is not family:
        raise LineError("a range from one family to the other")
    if end < start:
        raise LineError("a range that ends before it begins")
    return family, start, end + 1


def write(loaded: LoadedRules, *, allow: bool = True, families: Collection[Family] = tuple(Family)) -> str:
    """Return the fewest ranges as `cidrlist.write` does networks; a single address stands alone.  Raises Unsayable."""
    networks_of(loaded)
    lines = []
    for family in families:
        for start, end in joined(cidrlist.clients(loaded, family, allow)):
            first, last = family.text(start), family.text(end - 1)
            lines.append(f"{first}\n" if first == last else f"{first}-{last}\n")
    return "".join(lines)
