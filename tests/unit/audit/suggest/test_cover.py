"""Choices of nodes, exact and by price, beside a search through all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.audit.suggest.cover import NONE, Choice, TooFew, Tree, cheapest, fewest


@st.composite
def trees(draw: st.DrawFn, most_leaves: int = 9) -> Tree:
    """Trees in which a node costs no less than its children, some of whose nodes may not be taken."""
    tree = Tree([], [], [])
    least: list[int] = []

    def add(left: int, right: int, cost: int | None, at_least: int) -> int:
        tree.lefts.append(left)
        tree.rights.append(right)
        tree.costs.append(cost)
        least.append(at_least)
        return len(least) - 1

    def grow(leaves: int) -> int:
        if leaves == 1:
            return add(NONE, NONE, 0, 0)
        first = draw(st.integers(1, leaves - 1))
        left, right = grow(first), grow(leaves - first)
        cost = least[left] + least[right] + draw(st.sampled_from([0, 0, 1, 2, 3, 7, 8, 100]))
        return add(left, right, cost if draw(st.integers(0, 5)) else None, cost)

    grow(draw(st.integers(1, most_leaves)))
    return tree


def covers(tree: Tree, node: int) -> list[tuple[int, ...]]:
    """All choices that cover the leaves within a node."""
    left, right = tree.lefts[node], tree.rights[node]
    found: list[tuple[int, ...]] = [] if tree.costs[node] is None else [(node,)]
    if left != NONE:
        found += [one + other for one in covers(tree, left) for other in covers(tree, right)]
    return found


def cost(tree: Tree, nodes: tuple[int, ...]) -> int:
    return sum(tree.costs[node] or 0 for node in nodes)


def checked(tree: Tree, found: Choice) -> tuple[int, int]:
    """How many nodes a choice takes, and what they cost; it is one of all choices."""
    assert tuple(found.nodes) in covers(tree, len(tree.costs) - 1)
    assert found.cost == cost(tree, tuple(found.nodes))
    return len(found.nodes), found.cost


@given(trees(), st.integers(1, 10))
def test_the_cheapest_of_so_many(tree: Tree, most: int) -> None:
    allowed = [(cost(tree, nodes), len(nodes)) for nodes in covers(tree, len(tree.costs) - 1) if len(nodes) <= most]
    if not allowed:
        for work in (10**6, 0):
            with pytest.raises(TooFew):
                cheapest(tree, most, work)
        return
    best = min(allowed)
    number, price = checked(tree, cheapest(tree, most))
    assert (price, number) == best
    near = cheapest(tree, most, work=0)
    number, price = checked(tree, near)
    assert number <= most and best[0] <= price <= best[0] + near.excess


@given(trees(), st.integers(0, 120))
def test_the_fewest_at_so_much(tree: Tree, budget: int) -> None:
    every = [(len(nodes), cost(tree, nodes)) for nodes in covers(tree, len(tree.costs) - 1)]
    best = min(one for one in every if one[1] <= budget)
    assert checked(tree, fewest(tree, budget)) == best
    near = fewest(tree, budget, work=0)
    number, price = checked(tree, near)
    assert price <= budget and best[0] <= number <= best[0] + near.excess


def test_it_is_said_how_many_are_needed() -> None:
    tree = Tree([NONE, NONE, 0], [NONE, NONE, 1], [0, 0, None])
    for work in (10, 0):
        with pytest.raises(TooFew, match="2 are needed"):
            cheapest(tree, 1, work)
