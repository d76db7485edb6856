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

NO_RULE = -1


class Interval(NamedTuple):
    """Addresses from `start` up to, not including, `end` that one rule decides: that with this index, or NO_RULE."""

    start: int
    end: int
    rule: int


class Partition:
    """The rules of one family that can match, as parallel lists in the order of (number, length).

    Rules that no lookup can match are left out.
    """

    def __init__(self, rules: Mapping[bytes, Rule], family: Family, *, progress: Progress = silent) -> None:
        """Sort out rules by their keys; `LoadedRules.partition` does so once."""
        self.family = family
        named = family.prefix
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

    def rule(self, index: int) -> Rule | None:
        """Return the rule with this index, None for NO_RULE."""
        return None if index == NO_RULE else self.rules[index]

    def key(self, index: int) -> bytes | None:
        """Return the key of the rule with this index, None for NO_RULE."""
        return None if index == NO_RULE else self.keys[index]

    def intervals(self) -> Iterator[Interval]:
        """Yield all addresses of the family, in order, cut where the deciding rule changes."""
        bits = self.family.bits
        open_ = [(self.family.size, NO_RULE)]
        position = 0
        for index, (number, length) in enumerate(zip(self.numbers, self.lengths, strict=True)):
            end, rule = open_[-1]
            while end <= number:
                if position < end:
                    yield Interval(position, end, rule)
                    position = end
                open_.pop()
                end, rule = open_[-1]
            if position < number:
                yield Interval(position, number, rule)
                position = number
            open_.append((number + (1 << bits - length), index))
        for end, rule in reversed(open_):
            if position < end:
                yield Interval(position, end, rule)
                position = end

    def parents(self) -> list[int]:
        """Return, for each rule, which one would decide all of its addresses if it and those within it were gone."""
        bits = self.family.bits
        open_ = [(self.family.size, NO_RULE)]
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


def merge_intervals(
    one: Iterable[tuple[int, int, T]], other: Iterable[tuple[int, int, U]]
) -> Iterator[tuple[int, int, T, U]]:
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


class IntervalIndex:
    """Finds the rule that decides an address, by bisection over the intervals of a partition."""

    def __init__(self, partition: Partition) -> None:
        self._starts: list[int] = []
        self._rules: list[int] = []
        for start, _, index in partition.intervals():
            self._starts.append(start)
            self._rules.append(index)

    def rule_at(self, number: int) -> int:
        """Return the index of the rule that decides the address with this number, or NO_RULE."""
        return self._rules[bisect_right(self._starts, number) - 1]

    def within(self, start: int, end: int) -> Iterator[Interval]:
        """Yield the addresses from `start` up to, not including, `end`, cut where the deciding rule changes."""
        index = bisect_right(self._starts, start) - 1
        while start < end:
            index += 1
            following = self._starts[index] if index < len(self._starts) else end
            yield Interval(start, min(following, end), self._rules[index - 1])
            start = following
