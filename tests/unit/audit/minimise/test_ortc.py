"""The fewest networks, beside an exact search that knows neither sets nor tries."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s6tls.audit.minimise.ortc import fewest
from s6tls.audit.minimise.trie import NONE, Prefix, Trie

Networks = list[Prefix]


@st.composite
def networks(draw: st.DrawFn, bits: int = 4, outcomes: int = 3, most: int = 20) -> Networks:
    found: dict[tuple[int, int], int] = {}
    for _ in range(draw(st.integers(0, most))):
        length = draw(st.integers(0, bits))
        number = draw(st.integers(0, 2**bits - 1)) >> bits - length << bits - length
        found[number, length] = draw(st.integers(0, outcomes - 1))
    return sorted(Prefix(number, length, outcome) for (number, length), outcome in found.items())


def decided(given: Networks, bits: int) -> tuple[int | None, ...]:
    """The outcome of each address."""
    answers: list[int | None] = [None] * 2**bits
    for number, length, outcome in sorted(given, key=lambda prefix: prefix.length):
        answers[number : number + 2 ** (bits - length)] = [outcome] * 2 ** (bits - length)
    return tuple(answers)


@functools.cache
def exact(wanted: tuple[int | None, ...], inherited: int | None = None) -> float:
    """How many rules it takes for these addresses, trying at each network every outcome, and no rule."""

    def below(holding: int | None) -> float:
        if len(wanted) == 1:
            return 0 if wanted[0] == holding else float("inf")
        half = len(wanted) // 2
        return exact(wanted[:half], holding) + exact(wanted[half:], holding)

    return min(below(inherited), *(1 + below(outcome) for outcome in {*wanted, 0} - {None}))


@settings(max_examples=300)
@given(networks())
def test_nothing_is_fewer_and_every_decision_is_the_same(given_: Networks) -> None:
    found = fewest(given_, 4)
    wanted = decided(given_, 4)
    assert decided(found, 4) == wanted
    assert len(found) == exact(wanted)


@settings(max_examples=60)
@given(networks(bits=7, outcomes=4, most=12))
def test_nothing_is_fewer_where_edges_are_long(given_: Networks) -> None:
    found = fewest(given_, 7)
    assert decided(found, 7) == decided(given_, 7)
    assert len(found) == exact(decided(given_, 7))


@pytest.mark.parametrize("bits", [1, 2])
def test_every_way_to_decide_a_few_addresses(bits: int) -> None:
    for code in range(4**2**bits):
        outcomes = [code >> 2 * i & 3 for i in range(2**bits)]
        given_ = [Prefix(i, bits, outcome) for i, outcome in enumerate(outcomes) if outcome < 3]
        assert len(fewest(given_, bits)) == exact(decided(given_, bits))


@given(networks())
def test_the_answer_depends_on_decisions_only(given_: Networks) -> None:
    singles = [Prefix(i, 4, outcome) for i, outcome in enumerate(decided(given_, 4)) if outcome is not None]
    found = fewest(given_, 4)
    assert fewest(singles, 4) == found == fewest(found, 4)


@pytest.mark.parametrize("bits", [32, 128])
def test_the_smallest_and_the_widest(bits: int) -> None:
    last = 2**bits - 1
    assert fewest([], bits) == []
    assert fewest([Prefix(0, 0, 2)], bits) == [(0, 0, 2)]
    assert fewest([Prefix(0, bits, 0), Prefix(last, bits, 0)], bits) == [(0, bits, 0), (last, bits, 0)]
    assert fewest([Prefix(0, 0, 0), Prefix(last, bits, 1)], bits) == [(0, 0, 0), (last, bits, 1)]
    assert fewest([Prefix(0, 1, 1), Prefix(2 ** (bits - 1), 1, 1)], bits) == [(0, 0, 1)]


def test_a_hole_that_three_quarters_surround_is_the_exception() -> None:
    assert fewest([Prefix(0, 2, 1), Prefix(4, 2, 0), Prefix(8, 2, 0), Prefix(12, 2, 0)], 4) == [(0, 0, 0), (0, 2, 1)]


def test_of_equal_choices_the_lowest_outcome_is_taken() -> None:
    assert fewest([Prefix(0, 1, 1), Prefix(8, 1, 0)], 4) == [(0, 0, 0), (0, 1, 1)]


def test_all_outcomes_may_differ() -> None:
    given_ = [Prefix(i, 10, i) for i in range(1024)]
    assert len(fewest(given_, 10)) == 1024


@given(networks(bits=6))
def test_a_trie_has_all_networks_that_say_something_and_few_others(given_: Networks) -> None:
    trie = Trie(given_, 6)
    assert len(trie) <= max(1, 2 * len(given_))
    assert sorted(trie.order) == list(range(len(trie)))
    place = {node: position for position, node in enumerate(trie.order)}
    for node, (left, right) in enumerate(zip(trie.lefts, trie.rights, strict=True)):
        for half, below in enumerate((left, right)):
            if below != NONE:
                assert place[below] < place[node] and trie.frees[below] < trie.frees[node]
                assert (
                    trie.numbers[below] >> trie.frees[node] - 1 == (trie.numbers[node] >> trie.frees[node] - 1) + half
                )
