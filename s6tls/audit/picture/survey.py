"""What maps show of a family's addresses: the outcomes of small places, exactly, and how many addresses have each.

Places are cells of equal size on a line for IPv4, and the networks of rules, without those within them, for IPv6.
One walk over all addresses tells each place what happens in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.core.partition import NO_RULE, Partition, merge_intervals
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.picture import palette
from s6tls.audit.picture.palette import Shade, Swatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCKS = 256
"""How many parts of equal size the IPv4 addresses are described in: the /8 networks."""

MOST_TILES = 2000
"""How many tiles there are at most; more rules than that are drawn by the network that holds them."""


class Run(NamedTuple):
    """Addresses from `start` up to, not including, `end` with one outcome; `rule` is the rule that decides (now)."""

    start: int
    end: int
    rule: int
    shade: Shade


class Survey:
    """The addresses of a family, in the order of their numbers, with their outcomes."""

    def __init__(self, partition: Partition, swatches: tuple[Swatch, ...], mixed: tuple[int, ...]) -> None:
        self.partition = partition
        self.networks = set(zip(partition.numbers, partition.lengths, strict=True))
        self.swatches = swatches
        self.mixed = mixed
        self.counts = [0] * len(swatches)
        self._runs: Iterable[Run] = ()

    @classmethod
    def of(cls, loaded: LoadedRules, colours: palette.Colouring, family: Family, progress: Progress) -> Survey:
        """Survey a rule set."""
        found = cls(loaded.partition(family, progress), colours.swatches, colours.mixed)
        shades = colours.shades(found.partition)
        found._runs = (Run(start, end, rule, shades[rule]) for start, end, rule in found.partition.intervals())
        return found

    @classmethod
    def of_changes(cls, old: LoadedRules, new: LoadedRules, family: Family, progress: Progress) -> Survey:
        """Survey what becomes of the decisions of a rule set in another."""
        before, after = (loaded.partition(family, progress) for loaded in (old, new))
        found = cls(after, palette.CHANGES, palette.CHANGES_MIXED)
        found.networks.update(zip(before.numbers, before.lengths, strict=True))
        found._runs = (
            Run(start, end, rule, palette.change(before.rule(was), after.rule(rule)))
            for start, end, was, rule in merge_intervals(before.intervals(), after.intervals())
        )
        return found

    def runs(self, progress: Progress = silent) -> Iterator[Run]:
        """Yield all addresses, once, and count them by swatch on the way."""
        for run in counted(self._runs, f"{self.partition.family.value} ranges drawn", progress):
            self.counts[run.shade.swatch] += run.end - run.start
            yield run

    def places(self, number: int) -> Places:
        """Return this many places in which nothing has been seen."""
        return Places(number, self.swatches, self.mixed)


class Places:
    """What has been seen in each of some places."""

    def __init__(self, number: int, swatches: tuple[Swatch, ...], mixed: tuple[int, ...]) -> None:
        self._first: list[Shade | None] = [None] * number
        self._several = [-1] * number
        self._ranks = [swatch.rank for swatch in swatches]
        self._mixed = mixed

    def see(self, place: int, shade: Shade) -> None:
        """Take note that some address of a place has this outcome."""
        first = self._first[place]
        if first is None:
            self._first[place] = shade
        elif first.outcome != shade.outcome:
            self._several[place] = max(self._several[place], self._ranks[first.swatch], self._ranks[shade.swatch])

    def swatches(self) -> list[int | None]:
        """Return the swatch of each place, None where nothing was seen."""
        return [
            self._mixed[rank] if rank >= 0 else None if first is None else first.swatch
            for first, rank in zip(self._first, self._several, strict=True)
        ]


@dataclass
class Block:
    """One of the /8 networks of IPv4.

    `counts` are addresses by swatch.  `rule` is the rule that decides more than half of it, or NO_RULE.  `inside`
    counts the rules for smaller networks in it, and `first_inside` is the key of the first.
    """

    number: int
    counts: Counter[int] = field(default_factory=Counter)
    rule: int = NO_RULE
    inside: int = 0
    first_inside: bytes = b""

    @property
    def main_swatch(self) -> int:
        """The swatch of most of its addresses; of several, the last, which is a pale one."""
        return max(self.counts, key=lambda swatch: (self.counts[swatch], swatch))


@dataclass
class Plane:
    """IPv4 in 4**order cells along the line of addresses: the swatch of each, and the /8 networks."""

    order: int
    cells: list[int]
    blocks: list[Block]


def plane(survey: Survey, order: int, progress: Progress = silent) -> Plane:
    """Chart IPv4 in 4**order cells."""
    partition = survey.partition
    shift = Family.IP4.bits - 2 * order
    places = survey.places(1 << 2 * order)
    blocks = [Block(number) for number in range(BLOCKS)]
    ruled: list[Counter[int]] = [Counter() for _ in blocks]
    for start, end, rule, shade in survey.runs(progress):
        for cell in range(start >> shift, (end - 1 >> shift) + 1):
            places.see(cell, shade)
        is_wide = rule != NO_RULE and partition.lengths[rule] <= 8
        for number in range(start >> 24, (end - 1 >> 24) + 1):
            addresses = min(end, number + 1 << 24) - max(start, number << 24)
            blocks[number].counts[shade.swatch] += addresses
            if is_wide:
                ruled[number][rule] += addresses
    for block, rules in zip(blocks, ruled, strict=True):
        block.rule = next((rule for rule, addresses in rules.items() if addresses > 1 << 23), NO_RULE)
    for number, length, key in zip(partition.numbers, partition.lengths, partition.keys, strict=True):
        if length > 8:
            block = blocks[number >> 24]
            block.inside += 1
            block.first_inside = block.first_inside or key
    return Plane(order, [swatch for swatch in places.swatches() if swatch is not None], blocks)


@dataclass
class Tile:
    """A network with rules: `rules` counts those of it and, if they have no tiles, those in it.

    `swatch` shows what becomes of its addresses that are in no tile within it; None if all are.  `weight` counts the
    rules in it, with those of tiles within.
    """

    number: int
    length: int
    rules: int
    weight: int
    swatch: int | None = None
    tiles: list[Tile] = field(default_factory=list)


def tiling(survey: Survey, most: int = MOST_TILES, progress: Progress = silent) -> Tile:
    """Chart the networks of rules as tiles within those of wider ones; return the tile of the whole family.

    Where there would be more than `most`, rules whose prefixes are longer than some length have no tiles of their own:
    those in the same network of that length have one together.
    """
    family = survey.partition.family
    grouped = _grouped(survey.networks, family.bits, most)
    # A partition whose rules are the tiles knows which tile each address is in, and which tile is in which.
    partition = Partition({family.key(*network): Rule(False) for network in grouped}, family)
    networks = zip(partition.numbers, partition.lengths, strict=True)
    found = [Tile(number, length, grouped[number, length], grouped[number, length]) for number, length in networks]
    found.append(Tile(0, 0, 0, 0))  # where NO_RULE finds it
    places = survey.places(len(found))
    shades = ((run.start, run.end, run.shade) for run in survey.runs(progress))
    for _, _, tile, shade in merge_intervals(partition.intervals(), shades):
        places.see(tile, shade)
    for tile_, swatch in zip(found, places.swatches(), strict=True):
        tile_.swatch = swatch
    parents = partition.parents()
    for index, parent in enumerate(parents):
        found[parent].tiles.append(found[index])
    for index in reversed(range(len(parents))):
        found[parents[index]].weight += found[index].weight
    return found[NO_RULE]


def _grouped(networks: set[tuple[int, int]], bits: int, most: int) -> dict[tuple[int, int], int]:
    """Return at most `most` networks, and how many of the given ones each stands for: itself, or all that are in it."""
    if len(networks) <= most:
        return dict.fromkeys(networks, 1)

    def cut(network: tuple[int, int], length: int) -> tuple[int, int]:
        free = bits - length
        return network[0] >> free << free, min(network[1], length)

    def number_at(length: int) -> int:
        return len({cut(network, length) for network in networks})

    length = bisect_right(range(bits), most, key=number_at) - 1
    counts = Counter(cut(network, length) for network in networks)
    lone = {network: 1 for network in networks if counts[cut(network, length)] == 1}
    return {**lone, **{network: count for network, count in counts.items() if count > 1}}
