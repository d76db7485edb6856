"""The addresses of a family, and which rule decides each.

The more specific rule decides, and networks either nest or are disjoint.  So with the networks in the order of
their first addresses, the wider first, one walk with a stack of those that are open tells everything: the top
of the stack decides the present address, and what lies below a network is the rule that would decide without it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.progress import Progress, counted, silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.networks import Family

T = TypeVar("T")
U = TypeVar("U")

NOBODY = -1


class Segment(NamedTuple):
    """Addresses from `start` up to, not including, `end` that one rule decides: that with this index, or NOBODY."""

    start: int
    end: int
    owner: int


class Space:
    """The rules of one family that can match, as parallel lists in the order of (number, length).

    Rules whose names no lookup asks for are left out: they decide nothing.
    """

    def __init__(self, rules: Mapping[bytes, Rule], family: Family, *, progress: Progress = silent) -> None:
        """Sort out rules by their keys; `Contents.space` does so once."""
        self.family = family
        named = family.value.encode() + b"/"
        found: list[tuple[int, int, bytes]] = []
        for key in counted(rules, f"{family.value} keys read", progress):
            if key.startswith(named):
                try:
                    number, length = family.parse_name(key[len(named) :])
                except AddressError:
                    continue
                found.append((number, length, key))
        found.sort()
        self.numbers = [number for number, _, _ in found]
        self.lengths = [length for _, length, _ in found]
        self.keys = [key for _, _, key in found]
        self.rules = [rules[key] for key in self.keys]

    def __len__(self) -> int:
        return len(self.keys)

    def rule(self, owner: int) -> Rule | None:
        """Return the rule with this index, None for NOBODY."""
        return None if owner == NOBODY else self.rules[owner]

    def key(self, owner: int) -> bytes | None:
        """Return the key of the rule with this index, None for NOBODY."""
        return None if owner == NOBODY else self.keys[owner]

    def segments(self) -> Iterator[Segment]:
        """Yield all addresses of the family, in order, cut where the deciding rule changes."""
        bits = self.family.bits
        open_ = [(self.family.size, NOBODY)]
        position = 0
        for index, (number, length) in enumerate(zip(self.numbers, self.lengths, strict=True)):
            end, owner = open_[-1]
            while end <= number:
                if position < end:
                    yield Segment(position, end, owner)
                    position = end
                open_.pop()
                end, owner = open_[-1]
            if position < number:
                yield Segment(position, number, owner)
                position = number
            open_.append((number + (1 << bits - length), index))
        for end, owner in reversed(open_):
            if position < end:
                yield Segment(position, end, owner)
                position = end

    def parents(self) -> list[int]:
        """Return, for each rule, which one would decide all of its addresses if it and those within it were gone."""
        bits = self.family.bits
        open_ = [(self.family.size, NOBODY)]
        found = []
        for index, (number, length) in enumerate(zip(self.numbers, self.lengths, strict=True)):
            while open_[-1][0] <= number:
                open_.pop()
            found.append(open_[-1][1])
            open_.append((number + (1 << bits - length), index))
        return found

    def decided(self) -> list[int]:
        """Return how many addresses each rule decides itself; the last item counts those that none does."""
        bits = self.family.bits
        counts = [1 << bits - length for length in self.lengths] + [self.family.size]
        for index, parent in enumerate(self.parents()):
            counts[parent] -= 1 << bits - self.lengths[index]
        return counts


def overlaid(one: Iterable[tuple[int, int, T]], other: Iterable[tuple[int, int, U]]) -> Iterator[tuple[int, int, T, U]]:
    """Cut addresses where either side cuts them: yield start, end, and what each side says about these.

    Both sides go over the same addresses, in order and without gaps.
    """
    others = iter(other)
    start, (_, other_end, other_value) = 0, next(others)
    for _, end, value in one:
        while start < end:
            if other_end == start:
                _, other_end, other_value = next(others)
            cut = min(end, other_end)
            yield start, cut, value, other_value
            start = cut


class Locator:
    """Finds the rule that decides an address, by bisection over the segments of a space."""

    def __init__(self, space: Space) -> None:
        self._starts: list[int] = []
        self._owners: list[int] = []
        for start, _, owner in space.segments():
            self._starts.append(start)
            self._owners.append(owner)

    def owner(self, number: int) -> int:
        """Return the index of the rule that decides the address with this number, or NOBODY."""
        return self._owners[bisect_right(self._starts, number) - 1]

    def within(self, start: int, end: int) -> Iterator[Segment]:
        """Yield the addresses from `start` up to, not including, `end`, cut where the deciding rule changes."""
        index = bisect_right(self._starts, start) - 1
        while start < end:
            index += 1
            following = self._starts[index] if index < len(self._starts) else end
            yield Segment(start, min(following, end), self._owners[index - 1])
            start = following
