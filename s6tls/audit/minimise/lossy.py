"""Fewer rules still, where some addresses may be decided otherwise: by how many, and by which not.

A candidate is a network of the trie whose addresses are all given one outcome: that which holds around it, or that
which most of its addresses have.  It saves the rules within the network, but for the one that it may need itself, and
changes all addresses that had another outcome.  Those that change the fewest addresses for each rule saved are taken
first, as long as the budget lasts, and none that lies within another.  Then the rules are made as few as can be again,
which may bring up new candidates, until nothing is left that the budget allows.

This is greedy: it need not find the fewest rules that a budget allows.  An address that changes in two rounds is paid
for twice, so never more are changed than was allowed.  Every candidate saves a rule, so a budget never makes more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from s6tls.audit.core.networks import Network
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.minimise import ortc
from s6tls.audit.minimise.trie import NONE, UNDECIDED, Prefix, Trie

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.audit.core.networks import Family, Range


@dataclass(frozen=True)
class Budget:
    """How many addresses may be decided otherwise, and the networks in which none may."""

    addresses: int = 0
    protected: tuple[Network, ...] = ()

    def less(self, spent: int) -> Budget:
        """Return what is left when some of it is spent."""
        return replace(self, addresses=self.addresses - spent)

    def ranges(self, family: Family) -> list[Range]:
        """Return the protected addresses of a family: ranges in order that do not overlap."""
        found: list[Range] = []
        networks = sorted((network.number, network.length) for network in self.protected if network.family is family)
        for number, length in networks:
            if found and number < found[-1][1]:
                continue  # networks overlap by lying within one another, the wider first
            found.append(Network(family, number, length).range)
        return found

    def protects(self, family: Family, ranges: Iterable[Range]) -> bool:
        """Tell whether any address of these ranges is protected."""
        protected = self.ranges(family)
        return any(_overlaps(protected, start, end) for start, end in ranges)


NO_BUDGET = Budget()


class _Candidate(NamedTuple):
    """What it would take to give all of a network one outcome: `first` to `last` (not included) are its rules."""

    cost: int
    gain: int
    prefix: Prefix
    first: int
    last: int
    needs_rule: bool


def aggregate(
    prefixes: list[Prefix], family: Family, budget: Budget, *, progress: Progress = silent
) -> tuple[list[Prefix], int]:
    """Return fewer networks than those of `ortc.fewest`, and an upper bound of how many addresses they change."""
    protected = budget.ranges(family)
    left = budget.addresses
    while True:
        candidates = _candidates(prefixes, family.bits, left, protected, progress)
        candidates.sort(key=lambda one: ((one.cost << 32) // one.gain, -one.gain, one.prefix))
        chosen, cost = _chosen(candidates, len(prefixes), left)
        if not chosen:
            return prefixes, budget.addresses - left
        left -= cost
        prefixes = ortc.fewest(_applied(prefixes, chosen), family.bits, progress=progress)


def _candidates(
    prefixes: list[Prefix], bits: int, most: int, protected: list[Range], progress: Progress
) -> list[_Candidate]:
    """Return what would save rules and change at most `most` addresses, none of them protected.

    The wider a network is, the more has to change in it.  So what is too dear, or reaches into protected networks,
    is looked at no more, and neither is what it lies within.
    """
    if not prefixes:
        return []
    trie = Trie(prefixes, bits)
    around = _inherited(trie)
    counts: dict[int, dict[int, int]] = {}
    runs: dict[int, tuple[int, int]] = {}
    found: list[_Candidate] = []
    for node in counted(trie.order, "networks weighed", progress):
        number, free, outcome = trie.numbers[node], trie.frees[node], trie.outcomes[node]
        below = [child for child in (trie.lefts[node], trie.rights[node]) if child != NONE]
        inner = [counts.pop(child, None) for child in below]
        spans = [runs.pop(child, (0, 0)) for child in below]
        within = _merged([count for count in inner if count is not None])
        if None in inner or _overlaps(protected, number, number + (1 << free)):
            continue
        own = (1 << free) - sum(1 << trie.frees[child] for child in below)
        if outcome != UNDECIDED and own:
            within[outcome] = within.get(outcome, 0) + own
        rule = trie.rules[node]
        first = rule if rule != NONE else spans[0][0]
        last = spans[-1][1] if spans else rule + 1
        common = min(within, key=lambda one: (-within[one], one))
        least = (1 << free) - within[common]
        if least > most:
            continue
        counts[node], runs[node] = within, (first, last)
        for chosen in {around[node], common} - {UNDECIDED}:
            cost = (1 << free) - within.get(chosen, 0)
            gain = last - first - (chosen != around[node])
            if gain > 0 and cost <= most:
                prefix = Prefix(number, bits - free, chosen)
                found.append(_Candidate(cost, gain, prefix, first, last, chosen != around[node]))
    return found


def _inherited(trie: Trie) -> list[int]:
    """Return for each node the outcome that would hold in it without the rules within it."""
    found = [UNDECIDED] * len(trie)
    for node in reversed(trie.order):
        for below in (trie.lefts[node], trie.rights[node]):
            if below != NONE:
                found[below] = trie.outcomes[node]
    return found


def _merged(counts: list[dict[int, int]]) -> dict[int, int]:
    """Add up counts, the smaller into the larger."""
    if len(counts) < 2:
        return counts[0] if counts else {}
    small, large = sorted(counts, key=len)
    for outcome, addresses in small.items():
        large[outcome] = large.get(outcome, 0) + addresses
    return large


def _chosen(candidates: list[_Candidate], rules: int, left: int) -> tuple[list[_Candidate], int]:
    """Take candidates in turn, none within another, and return them and what they cost."""
    taken = bytearray(rules)
    chosen = []
    cost = 0
    for candidate in candidates:
        first, last = candidate.first, candidate.last
        if cost + candidate.cost <= left and taken.find(1, first, last) < 0:
            taken[first:last] = b"\1" * (last - first)
            chosen.append(candidate)
            cost += candidate.cost
    return chosen, cost


def _applied(prefixes: list[Prefix], chosen: list[_Candidate]) -> list[Prefix]:
    gone = bytearray(len(prefixes))
    for candidate in chosen:
        gone[candidate.first : candidate.last] = b"\1" * (candidate.last - candidate.first)
    kept = [prefix for prefix, is_gone in zip(prefixes, gone, strict=True) if not is_gone]
    return sorted([*kept, *(candidate.prefix for candidate in chosen if candidate.needs_rule)])


def _overlaps(ranges: Sequence[Range], start: int, end: int) -> bool:
    """Tell whether addresses from `start` up to, not including, `end` lie in any of `ranges`, which are in order."""
    index = bisect_right(ranges, start, key=lambda one: one[1])
    return index < len(ranges) and ranges[index][0] < end
