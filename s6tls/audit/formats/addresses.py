"""Sets of addresses of both families: ranges in order that neither overlap nor touch."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family, Network, prefixes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.networks import Range

_FAMILIES = tuple(Family)


@dataclass(frozen=True)
class Addresses:
    """A set; `ranges` are those of each family, in the order of `Family`."""

    ranges: tuple[tuple[Range, ...], ...]

    def __bool__(self) -> bool:
        return any(self.ranges)

    def __or__(self, other: Addresses) -> Addresses:
        return union((self, other))

    def __invert__(self) -> Addresses:
        """Return all addresses that are not in it."""
        return Addresses(
            tuple(tuple(_gaps(ranges, family)) for ranges, family in zip(self.ranges, Family, strict=True))
        )

    def __and__(self, other: Addresses) -> Addresses:
        return ~(~self | ~other)

    def __sub__(self, other: Addresses) -> Addresses:
        return ~(~self | other)

    def networks(self) -> Iterator[Network]:
        """Yield the fewest networks that have all of them and no others."""
        for ranges, family in zip(self.ranges, Family, strict=True):
            for start, end in ranges:
                for number, free in prefixes(start, end):
                    yield Network(family, number, family.bits - free)


def union(sets: Iterable[Addresses]) -> Addresses:
    """Return the addresses that are in any of these."""
    found = [one.ranges for one in sets]
    return Addresses(tuple(tuple(_joined(merge(*(one[i] for one in found)))) for i in range(len(_FAMILIES))))


def of(networks: Iterable[Network]) -> Addresses:
    """Return the addresses of networks."""
    ranges: list[list[Range]] = [[] for _ in _FAMILIES]
    for at in networks:
        ranges[_FAMILIES.index(at.family)].append(at.range)
    return Addresses(tuple(tuple(_joined(sorted(some))) for some in ranges))


def allowed(loaded: LoadedRules) -> Addresses:
    """Return the addresses that rules allow."""
    return Addresses(tuple(tuple(_joined(_allowed(loaded, family))) for family in Family))


def _allowed(loaded: LoadedRules, family: Family) -> Iterator[Range]:
    partition = loaded.partition(family)
    for start, end, index in partition.intervals():
        rule = partition.rule(index)
        if rule is not None and rule.allow:
            yield start, end


def _joined(ranges: Iterable[Range]) -> Iterator[Range]:
    """Join ranges, in the order of their starts, that overlap or touch."""
    begun: Range | None = None
    for start, end in ranges:
        if begun is None:
            begun = start, end
        elif start <= begun[1]:
            begun = begun[0], max(begun[1], end)
        else:
            yield begun
            begun = start, end
    if begun is not None:
        yield begun


def _gaps(ranges: Iterable[Range], family: Family) -> Iterator[Range]:
    position = 0
    for start, end in ranges:
        if position < start:
            yield position, start
        position = end
    if position < family.size:
        yield position, family.size


NONE = Addresses(((), ()))
ALL = ~NONE
