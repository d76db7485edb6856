"""The fewest networks that decide as given ones do: ORTC, for outcomes that may also be "undecided".

The algorithm is that of Draves, King, Venkatachary and Zill, "Constructing Optimal IP Routing Tables" (INFOCOM 1999).
Three things are different here.

**Undecided.**  No rule makes an address undecided: it is left so, when no rule covers it.  Call a network *closed* if
all its addresses are decided, else *open*.  A rule decides all addresses of its network, so its network must be
closed.  The largest closed networks are disjoint, each possible rule lies in exactly one of them, and what is decided
in one depends on no rule of another.  So each is a problem of its own, in which everything is decided and nothing is
inherited, and the fewest for each are together the fewest for all.

**What is inherited.**  For a closed network v, let m(v) be the fewest rules within it (v included) that do if the best
outcome is inherited from above, and S(v) the outcomes that are best.  Then with any outcome c inherited the fewest are
m(v), plus 1 if c is not in S(v): a rule for v itself makes up for a bad one.  A network with one outcome x has m = 0
and S = {x}.  Of two halves a and b, each asks for one more rule unless what is inherited is in its set.  If the
sets meet, their common outcomes cost nothing, and S = S(a) & S(b).  If not, any outcome of either leaves one half
unhappy: S = S(a) | S(b), and no other outcome is better than to put a rule here.  By induction this is exact for all
c.  Going down again, a rule is needed just where what is inherited is not in the set.  At the top of a closed network
nothing is inherited, so it has a rule.

**Long edges.**  In a trie without the nodes that say nothing, an edge may stand for k > 0 networks that each have the
node below in one half, and nothing but the outcome x in the other.  With A the set of the node below, one step gives
combine(A, {x}), which is {x} or has x in it; each further step gives {x}.  So an edge costs no more than a node.  On
the way down the topmost network of the edge gets a rule, if what is inherited is not in its set.  If x then holds,
the other halves are content; else k is 1, and the only other half gets a rule.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.minimise.trie import NONE, UNDECIDED, Prefix, Trie

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OPEN = UNDECIDED


class _Sets:
    """Sets of outcomes as small numbers, the same for equal sets: that of an outcome alone is the outcome's own.

    OPEN stands in the place of a set where a network is open.  Where all outcomes differ, sets become as large as
    networks are wide; so they are kept as sorted arrays, which take a tenth of the memory of Python's sets.
    """

    def __init__(self, outcomes: int) -> None:
        self._alone = outcomes
        self._members: list[array[int]] = []
        self._numbers: dict[bytes, int] = {}
        self._combined: dict[tuple[int, int], int] = {}

    def combine(self, one: int, other: int) -> int:
        """Return the set of a network from those of its halves."""
        if one == other:
            return one
        if one == OPEN or other == OPEN:
            return OPEN
        pair = (one, other) if one < other else (other, one)
        found = self._combined.get(pair)
        if found is None:
            a, b = set(self._of(one)), set(self._of(other))
            found = self._combined[pair] = self._number(a & b or a | b)
        return found

    def holds(self, number: int, outcome: int) -> bool:
        """Tell whether an outcome is in a set."""
        if number < self._alone:
            return number == outcome
        members = self._members[number - self._alone]
        place = bisect_left(members, outcome)
        return place < len(members) and members[place] == outcome

    def least(self, number: int) -> int:
        """Return the outcome of a set that has the lowest number."""
        return self._of(number)[0]

    def _of(self, number: int) -> Sequence[int]:
        return (number,) if number < self._alone else self._members[number - self._alone]

    def _number(self, members: set[int]) -> int:
        if len(members) == 1:
            return next(iter(members))
        ordered = array("I", sorted(members))
        key = ordered.tobytes()
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = self._alone + len(self._members)
            self._members.append(ordered)
        return found


def fewest(prefixes: Iterable[Prefix], bits: int, *, progress: Progress = silent) -> list[Prefix]:
    """Return the fewest networks that give every address of `bits` bits the outcome that `prefixes` give it.

    The more specific network decides.  `prefixes` are in the order of (number, length), and so are those returned.
    Outcomes are numbers from 0; where one will do as well as another, the lowest is taken.  So the answer depends on
    nothing but what is decided.
    """
    given = list(prefixes)
    trie = Trie(given, bits, progress=progress)
    sets = _Sets(1 + max((prefix.outcome for prefix in given), default=0))
    lefts, rights = _ascend(trie, sets, progress)
    found = _descend(trie, sets, lefts, rights, progress)
    found.sort()
    return found


def _ascend(trie: Trie, sets: _Sets, progress: Progress) -> tuple[list[int], list[int]]:
    """Return for each node the sets of its two halves."""
    combine, frees = sets.combine, trie.frees
    lefts, rights = trie.outcomes.copy(), trie.outcomes.copy()
    for node in counted(trie.order, "networks combined", progress):
        outcome, free = trie.outcomes[node], frees[node]
        for below, halves in ((trie.lefts[node], lefts), (trie.rights[node], rights)):
            if below != NONE:
                steps = free - 1 - frees[below]
                if steps > 1:
                    continue
                own = combine(lefts[below], rights[below])
                halves[node] = combine(own, outcome) if steps else own
    return lefts, rights


def _descend(trie: Trie, sets: _Sets, lefts: list[int], rights: list[int], progress: Progress) -> list[Prefix]:
    """Put rules where what is inherited is not in the set."""
    bits, numbers, frees, outcomes = trie.bits, trie.numbers, trie.frees, trie.outcomes
    found: list[Prefix] = []

    def place_rule(number: int, free: int, wanted: int, inherited: int) -> int:
        """Return what holds within a network, after the rule for it, if one is needed."""
        if wanted == OPEN or sets.holds(wanted, inherited):
            return inherited
        chosen = sets.least(wanted)
        found.append(Prefix(number, bits - free, chosen))
        return chosen

    todo = [(0, UNDECIDED)]
    visits = 0
    while todo:
        node, inherited = todo.pop()
        visits += 1
        if not visits & 0x7FFF:
            progress("networks visited", visits)
        number, free, outcome = numbers[node], frees[node], outcomes[node]
        holding = place_rule(number, free, sets.combine(lefts[node], rights[node]), inherited)
        half = free - 1
        for start, wanted, below in (
            (number, lefts[node], trie.lefts[node]),
            (number + (1 << half) if free else number, rights[node], trie.rights[node]),
        ):
            if below == NONE:
                if free:
                    place_rule(start, half, wanted, holding)
                continue
            steps = half - frees[below]
            if not steps:
                todo.append((below, holding))
                continue
            held = place_rule(start, half, wanted, holding)
            if held != outcome:
                place_rule(numbers[below] ^ 1 << frees[below], frees[below], outcome, held)
            todo.append((below, held))
    return found
