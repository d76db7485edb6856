"""Networks to choose from, as the tree that `cover` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from s6tls.audit.core.networks import Family, Network
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.minimise.trie import Prefix, Trie
from s6tls.audit.suggest.cover import NONE, Tree, cheapest, fewest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Weigh = Callable[[int, int], int | None]


class Limit(NamedTuple):
    """How many rules there may be at most, or else how many addresses may be let in beyond those that have to be."""

    rules: int | None = None
    addresses: int = 0


EXACTLY = Limit()
"""Nobody is let in who does not have to be."""


class Grove(NamedTuple):
    """Networks of one family that have to be covered, disjoint and in order, as numbers and how many bits are free.

    `weigh` takes a network that has several of them in the same form, and returns how many addresses a rule for it
    would let in, or None if there may be none.
    """

    family: Family
    leaves: list[tuple[int, int]]
    weigh: Weigh


class Chosen(NamedTuple):
    """Networks in order, and how far they may be from the best: in addresses if rules are limited, else in rules."""

    networks: list[Network]
    excess: int


def chosen(groves: Iterable[Grove], limit: Limit, progress: Progress = silent) -> Chosen:
    """Choose networks that cover all leaves: the fewest, or the narrowest, that the limit allows.

    Raises TooFew if it allows none.
    """
    forest = _Forest()
    for grove in groves:
        if grove.leaves:
            forest.plant(grove)
    if not forest.networks:
        return Chosen([], 0)
    if limit.rules is not None:
        found = cheapest(forest.tree, limit.rules, progress=progress)
    else:
        found = fewest(forest.tree, limit.addresses, progress=progress)
    return Chosen([forest.networks[node] for node in found.nodes], found.excess)


class _Forest:
    def __init__(self) -> None:
        self.tree = Tree([], [], [])
        self.networks: list[Network] = []

    def plant(self, grove: Grove) -> None:
        """Add the tree of a grove; those of several get a root above all, which may not be taken."""
        family, leaves, weigh = grove
        before = len(self.networks) - 1
        trie = Trie((Prefix(number, family.bits - free, 0) for number, free in leaves), family.bits)
        nodes: dict[int, int] = {}
        needed: dict[int, int] = {}
        for node in trie.order:
            number, free = trie.numbers[node], trie.frees[node]
            below = [child for child in (trie.lefts[node], trie.rights[node]) if child != NONE]
            if len(below) == 1:
                nodes[node], needed[node] = nodes[below[0]], needed[below[0]]
                continue
            needed[node] = sum(needed[child] for child in below) if below else 1 << free
            cost = weigh(number, free) if below else needed[node]
            left, right = (nodes[child] for child in below) if below else (NONE, NONE)
            own = None if cost is None else cost - needed[node]
            nodes[node] = self._add(left, right, own, Network(family, number, family.bits - free))
        if before >= 0:
            self._add(before, len(self.networks) - 1, None, Network(family, 0, 0))

    def _add(self, left: int, right: int, own: int | None, network: Network) -> int:
        self.tree.lefts.append(left)
        self.tree.rights.append(right)
        self.tree.costs.append(own)
        self.networks.append(network)
        return len(self.networks) - 1
