"""The table: a set of denied addresses for each family, and a chain that drops their connections before they begin.

Rules have a comment, by which a table is known to be ours, and a rule to be the one that is wanted.

A change is one transaction: the kernel has all of it, or nothing.  It has what differs, and no more; but to take many
ranges out of a large set, one by one, takes nft (1.0.6) time in proportion to both.  Then the set is filled anew, in
the same transaction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from s6tls.audit.core.networks import Family
from s6tls.audit.kernel.state import CHAIN, MARK, SETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.audit.core.networks import Range
    from s6tls.audit.kernel.denied import Denied
    from s6tls.audit.kernel.state import State

_ADDRESS = {Family.IP4: "ip", Family.IP6: "ip6"}
_TYPES = {Family.IP4: "ipv4_addr", Family.IP6: "ipv6_addr"}
_MOST_PASSED = 2_000_000
"""So many ranges of sets are passed over in taking ranges out, which takes nft some two seconds."""

_IN_A_LINE = 500


@dataclass(frozen=True)
class Table:
    """A table of the family inet, by its name, for the TCP ports of a service: first and last of each range.

    With `log`, denied clients are counted and logged, and let through.
    """

    name: str
    ports: tuple[tuple[int, int], ...]
    log: bool = False

    def rules(self) -> list[str]:
        """Return the rules of the chain."""
        return [self._rule(family) for family in Family]

    def marks(self) -> list[str]:
        """Return the comments of the rules, which differ when the rules do."""
        return [_mark(self._matching(family)) for family in Family]

    def _rule(self, family: Family) -> str:
        matching = self._matching(family)
        return f'{matching} comment "{_mark(matching)}"'

    def _matching(self, family: Family) -> str:
        ports = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ports)
        then = f'limit rate 10/second burst 10 packets log prefix "{self.name} deny "' if self.log else "drop"
        return (
            f"tcp dport {{ {ports} }} tcp flags & (fin | syn | rst | ack) == syn "
            f"{_ADDRESS[family]} saddr @{SETS[family]} counter {then}"
        )


class Update(NamedTuple):
    """The commands for nft that make a table what it has to be, none if it is so, and what they come to.

    `added` and `removed` count ranges; of families in `refilled` the set is filled anew.
    """

    commands: list[str]
    added: dict[Family, int]
    removed: dict[Family, int]
    refilled: list[Family]


def update(table: Table, wanted: Denied, state: State | None = None) -> Update:
    """Return what makes a table of what the kernel has: nothing yet, or its `state`."""
    at = f"inet {table.name}"
    commands: list[str] = []
    if state is None:
        commands.append(f'add table {at} {{ comment "made by s6-accessrules"; }}')
        commands += [f"add set {at} {SETS[family]} {{ type {_TYPES[family]}; flags interval; }}" for family in Family]
        commands.append(f"add chain {at} {CHAIN} {{ type filter hook input priority filter - 10; policy accept; }}")
    elif state.marks != table.marks():
        commands.append(f"flush chain {at} {CHAIN}")
    if state is None or state.marks != table.marks():
        commands += [f"add rule {at} {CHAIN} {rule}" for rule in table.rules()]
    added: dict[Family, int] = {}
    removed: dict[Family, int] = {}
    refilled: list[Family] = []
    for family in Family:
        before = [] if state is None else state.denied[family]
        kept = {*before} & {*wanted[family]}
        new = [one for one in wanted[family] if one not in kept]
        old = [one for one in before if one not in kept]
        added[family], removed[family] = len(new), len(old)
        place = f"{at} {SETS[family]}"
        if len(old) * len(before) > _MOST_PASSED:
            refilled.append(family)
            commands.append(f"flush set {place}")
            new = wanted[family]
        else:
            commands += _elements("delete", place, family, old)
        commands += _elements("add", place, family, new)
    return Update(commands, added, removed, refilled)


def removal(name: str) -> list[str]:
    """Return the commands that remove a table."""
    return [f"delete table inet {name}"]


def _elements(verb: str, place: str, family: Family, ranges: Iterable[Range]) -> Iterator[str]:
    words = (_words(family, one) for one in ranges)
    while some := list(islice(words, _IN_A_LINE)):
        yield f"{verb} element {place} {{ {', '.join(some)} }}"


def _words(family: Family, addresses: Range) -> str:
    start, end = addresses
    return family.text(start) if end == start + 1 else f"{family.text(start)}-{family.text(end - 1)}"


def _mark(matching: str) -> str:
    return MARK + hashlib.sha256(matching.encode()).hexdigest()[:16]
