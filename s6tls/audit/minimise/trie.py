"""The networks of rules as a binary trie without the nodes that say nothing: at most two for each rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from s6tls.audit.core.progress import Progress, counted, silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNDECIDED = -1
NONE = -1


class Prefix(NamedTuple):
    """A network, and the number of the outcome that a rule gives it."""

    number: int
    length: int
    outcome: int


class Trie:
    """Nodes are networks, kept as parallel lists: those of rules, and those whose two halves both have nodes within.

    `numbers` has their first addresses, `frees` how many bits are free, `outcomes` what decides wherever no node
    within says otherwise (UNDECIDED if nothing does), `rules` the index of the rule of this node (NONE if it has
    none), `lefts` and `rights` the nodes next below in each half (NONE if there is none).  Node 0 is all of the
    family.  `order` has all nodes, those within a node before it.

    Rules that decide as the one that covers them are left out.
    """

    def __init__(self, prefixes: Iterable[Prefix], bits: int, *, progress: Progress = silent) -> None:
        """Build the trie of networks in the order of (number, length), no two the same."""
        self.bits = bits
        self.numbers: list[int] = []
        self.frees: list[int] = []
        self.outcomes: list[int] = []
        self.rules: list[int] = []
        self.lefts: list[int] = []
        self.rights: list[int] = []
        self.order: list[int] = []
        self._add(0, bits, UNDECIDED)
        path = [0]
        for index, (number, length, outcome) in enumerate(counted(prefixes, "networks sorted in", progress)):
            if not length:
                self.outcomes[0], self.rules[0] = outcome, index
                continue
            self._leave(path, number)
            if self.outcomes[path[-1]] != outcome:
                path.append(self._add(number, bits - length, outcome, index))
        self._leave(path, 1 << bits)

    def __len__(self) -> int:
        return len(self.numbers)

    def _add(self, number: int, free: int, outcome: int, rule: int = NONE) -> int:
        self.numbers.append(number)
        self.frees.append(free)
        self.outcomes.append(outcome)
        self.rules.append(rule)
        self.lefts.append(NONE)
        self.rights.append(NONE)
        return len(self.numbers) - 1

    def _leave(self, path: list[int], number: int) -> None:
        """Finish the nodes, the innermost last on `path`, that do not hold `number`, and hang each below the next.

        If the smallest network that holds both the last of them and `number` is no node yet, it becomes one.
        """
        numbers, frees = self.numbers, self.frees
        while path and (number ^ numbers[path[-1]]) >> frees[path[-1]]:
            node = path.pop()
            self.order.append(node)
            if not path:
                return
            above = path[-1]
            shared = (number ^ numbers[node]).bit_length()
            if shared < frees[above]:
                above = self._add(number >> shared << shared, shared, self.outcomes[above])
                path.append(above)
            self._hang(node, above)

    def _hang(self, node: int, above: int) -> None:
        halves: Sequence[list[int]] = (self.lefts, self.rights)
        halves[self.numbers[node] >> self.frees[above] - 1 & 1][above] = node
