"""Which nodes of a binary tree to take, so that every leaf is covered: by few of them, and at little cost.

A leaf costs nothing.  Any other node covers all leaves within it at a cost of its own, which is no less than that of
covering them by nodes further down; or it may not be taken.

**Exactly.**  For each node, `_frontiers` has the least cost with each number of nodes taken within it: of two children
the best split for each number, and one node if it is the node itself.  This takes time in proportion to the product of
the two children's lists, so it is given up when there would be too much of it.

**By a price.**  If each node taken has a price, then a node is taken just when it is no dearer than the best of its
children; this takes one walk.  What is best at a price is best for the number of nodes that it takes, and for any
number it says how much less the cost could be at the very most.  Two neighbouring prices, one on either side of what
is asked for, are mixed subtree by subtree as long as there is something to spare.
"""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING, Literal, NamedTuple

from s6tls.audit.core.progress import Progress, counted, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NONE = -1

MOST_WORK = 1 << 28
"""So many sums are made in search of the optimum, for some ten seconds; then what is nearly as good has to do."""


class Tree(NamedTuple):
    """Nodes in parallel lists, children before their parents, the root last.

    `lefts` and `rights` are the children (NONE for both: a leaf), `costs` what the node itself costs, None if it may
    not be taken.
    """

    lefts: list[int]
    rights: list[int]
    costs: list[int | None]


class Choice(NamedTuple):
    """The nodes taken, from left to right, what they cost, and how far this may be from the optimum: 0 if it is it.

    `excess` counts what is to be little: nodes for `fewest`, costs for `cheapest`.
    """

    nodes: list[int]
    cost: int
    excess: int = 0


class TooFew(ValueError):
    """Fewer nodes are asked for than it takes, which is `least`."""

    def __init__(self, least: int) -> None:
        super().__init__(f"{least:,} are needed at least")
        self.least = least


def cheapest(tree: Tree, most: int, work: int = MOST_WORK, progress: Progress = silent) -> Choice:
    """Cover the leaves with at most so many nodes at the least cost, and of such choices with the fewest nodes.

    Raises TooFew.
    """
    frontiers = _frontiers(tree, work, progress, most=most)
    if frontiers is None:
        return _cheapest_by_price(tree, most)
    least, costs = frontiers[-1]
    if not costs:
        raise TooFew(least)
    return _exactly(tree, frontiers, least + costs.index(costs[-1]))


def fewest(tree: Tree, budget: int, work: int = MOST_WORK, progress: Progress = silent) -> Choice:
    """Cover the leaves with the fewest nodes that cost at most so much, and of such choices at the least cost."""
    frontiers = _frontiers(tree, work, progress, budget=budget)
    if frontiers is None:
        return _fewest_by_price(tree, budget)
    return _exactly(tree, frontiers, frontiers[-1].least)


class _Frontier(NamedTuple):
    """The least cost with at most `least` nodes, with one more, and so on; further ones make it no less."""

    least: int
    costs: list[int]


def _frontiers(
    tree: Tree, work: int, progress: Progress, most: int | None = None, budget: int | None = None
) -> list[_Frontier] | None:
    """Return the frontier of each node, without what is beyond `most` nodes or beyond `budget`; None: too much work."""
    found: list[_Frontier] = []
    for left, right, own in counted(zip(*tree, strict=True), "networks weighed", progress):
        if left == NONE:
            found.append(_Frontier(1, [0]))
            continue
        one, other = found[left], found[right]
        least = one.least + other.least
        room = len(one.costs) + len(other.costs) - 1 if most is None else most - least + 1
        costs: list[int] = []
        if one.costs and other.costs and room > 0:
            work -= len(one.costs) * len(other.costs)
            if work < 0:
                return None
            costs = _best_sums(one.costs, other.costs, room)
        if budget is not None:
            dear = next((index for index, cost in enumerate(costs) if cost <= budget), len(costs))
            least, costs = least + dear, costs[dear:]
        if own is not None and (budget is None or own <= budget):
            least, costs = 1, [own] * (least - 1 if costs else 1) + costs
        found.append(_Frontier(least, costs))
    return found


def _best_sums(one: list[int], other: list[int], room: int) -> list[int]:
    """Return, for the first `room` sums of two indexes, the least sum of what stands there in the two lists."""
    if len(one) > len(other):
        one, other = other, one
    if len(one) == 1:
        return [one[0] + cost for cost in other[:room]]
    backwards = one[::-1]
    last = len(one) - 1
    best = []
    for total in range(min(room, last + len(other))):
        start = max(0, total - last)
        best.append(min(map(add, other[start : total + 1], backwards[start + last - total :])))
    return best


def _exactly(tree: Tree, frontiers: list[_Frontier], number: int) -> Choice:
    """Take so many nodes, the fewest for what they cost."""
    least, costs = frontiers[-1]
    total = costs[number - least]
    nodes = []
    todo = [(len(frontiers) - 1, number)]
    while todo:
        node, number = todo.pop()
        least, costs = frontiers[node]
        cost = costs[number - least]
        left, right = tree.lefts[node], tree.rights[node]
        if left == NONE or tree.costs[node] == cost:
            nodes.append(node)
            continue
        one, other = frontiers[left], frontiers[right]
        first = max(one.least, number - other.least - len(other.costs) + 1)
        share = next(
            share
            for share in range(first, number - other.least + 1)
            if one.costs[share - one.least] + other.costs[number - share - other.least] == cost
        )
        todo += [(right, number - share), (left, share)]
    return Choice(nodes, total)


class _Priced(NamedTuple):
    """What is best at a price for each node: how many nodes are taken within it, and what they cost."""

    numbers: list[int]
    costs: list[int]


def _priced(tree: Tree, price: int) -> _Priced:
    """Cover the leaves so that costs and prices come to the least, and of such choices with the fewest nodes."""
    numbers: list[int] = []
    costs: list[int] = []
    for left, right, own in zip(*tree, strict=True):
        number, cost = 1, 0
        if left != NONE:
            number, cost = numbers[left] + numbers[right], costs[left] + costs[right]
            if own is not None and own + price <= cost + price * number:
                number, cost = 1, own
        numbers.append(number)
        costs.append(cost)
    return _Priced(numbers, costs)


def _cheapest_by_price(tree: Tree, most: int) -> Choice:
    highest = _highest(tree)
    least = _priced(tree, highest).numbers[-1]
    if least > most:
        raise TooFew(least)
    price = _first(highest, lambda price: _priced(tree, price).numbers[-1] <= most)
    found = _priced(tree, price)
    if not price:
        return Choice(list(_taken(tree, found, len(found.costs) - 1)), 0)
    nodes, cost = _mixed(tree, found, _priced(tree, price - 1), "numbers", most)
    bound = found.costs[-1] - price * (most - found.numbers[-1])
    return Choice(nodes, cost, cost - max(bound, 0))


def _fewest_by_price(tree: Tree, budget: int) -> Choice:
    highest = _highest(tree)
    found = _priced(tree, highest)
    if found.costs[-1] <= budget:
        return Choice(list(_taken(tree, found, len(found.costs) - 1)), found.costs[-1])
    price = _first(highest, lambda price: _priced(tree, price).costs[-1] > budget)
    dearer = _priced(tree, price)
    nodes, cost = _mixed(tree, _priced(tree, price - 1), dearer, "costs", budget)
    bound = dearer.numbers[-1] - (budget - dearer.costs[-1]) // price
    return Choice(nodes, cost, len(nodes) - bound)


def _highest(tree: Tree) -> int:
    """Return a price at which the fewest nodes are taken."""
    return 1 + max(cost or 0 for cost in tree.costs)


def _first(highest: int, holds: Callable[[int], bool]) -> int:
    """Return the lowest price, up to `highest`, at which something holds that then holds at all higher ones."""
    low, high = 0, highest
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _taken(tree: Tree, found: _Priced, root: int) -> Iterator[int]:
    """Yield the nodes taken within one."""
    todo = [root]
    while todo:
        node = todo.pop()
        if found.numbers[node] == 1:
            yield node
        else:
            todo += (tree.rights[node], tree.lefts[node])


def _mixed(
    tree: Tree, found: _Priced, better: _Priced, scarce: Literal["numbers", "costs"], most: int
) -> tuple[list[int], int]:
    """Take what is better in subtrees, as far as the scarce goes; return the nodes and what they cost."""
    has, wants = (found.numbers, better.numbers) if scarce == "numbers" else (found.costs, better.costs)
    spare = most - has[-1]
    nodes: list[int] = []
    cost = 0
    todo = [len(has) - 1]
    while todo:
        node = todo.pop()
        needs = wants[node] - has[node]
        if needs <= spare:
            spare -= needs
            nodes += _taken(tree, better, node)
            cost += better.costs[node]
        elif found.numbers[node] == 1:
            nodes.append(node)
            cost += found.costs[node]
        else:
            todo += (tree.rights[node], tree.lefts[node])
    return nodes, cost
