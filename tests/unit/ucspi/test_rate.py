"""Token buckets beside a plain model: numbers of tokens, as fractions, that grow with time."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from s6tls.ucspi.rate import Buckets, Rate

S = 10**9
NETWORKS = [f"192.0.2.{number}" for number in range(4)]
RATES = st.builds(Rate, st.integers(1, 20), st.integers(1, 20), st.integers(1, 5))
STEPS = st.lists(st.tuples(st.sampled_from(NETWORKS), st.integers(0, 3 * S)), max_size=60)


@given(RATES, STEPS)
def test_it_does_what_tokens_would(rate: Rate, steps: list[tuple[str, int]]) -> None:
    buckets, now = Buckets(), 0
    tokens: dict[str, Fraction] = {}
    since: dict[str, int] = {}
    for network, passed in steps:
        now += passed
        gained = Fraction((now - since.get(network, now)) * rate.number, rate.seconds * S)
        held = min(Fraction(rate.burst), tokens.get(network, Fraction(rate.burst)) + gained)
        tokens[network], since[network] = held - (held >= 1), now
        assert buckets.take(network, rate, now) == (held >= 1)


@given(RATES, STEPS, st.integers(1, 3))
@example(Rate(6, 2, 1), [(NETWORKS[1], 0), (NETWORKS[0], 0), (NETWORKS[1], 1), (NETWORKS[1], S // 3)], 1)
def test_memory_is_bounded_and_to_forget_is_never_to_refuse(
    rate: Rate, steps: list[tuple[str, int]], most: int
) -> None:
    """A client that got more, since it was forgotten, may have to wait for it later: what counts is the sum."""
    few, all_of_them, now = Buckets(most), Buckets(), 0
    gained: Counter[str] = Counter()
    for network, passed in steps:
        now += passed
        gained[network] += few.take(network, rate, now) - all_of_them.take(network, rate, now)
        assert gained[network] >= 0
        assert len(few) <= most


def test_the_network_that_is_forgotten_is_the_one_not_seen_for_longest() -> None:
    buckets, rate = Buckets(most=2), Rate(1, 60, 1)
    assert [buckets.take(network, rate, 0) for network in "abab"] == [True, True, False, False]
    assert [buckets.take(network, rate, 0) for network in "acabc"] == [False, True, False, True, True]


def test_a_third_of_a_second_is_one() -> None:
    buckets, rate = Buckets(), Rate(3, 1, 3)
    assert [buckets.take("a", rate, 5 * S) for _ in range(4)] == [True, True, True, False]
    assert [buckets.take("a", rate, 5 * S + S // 3 + after) for after in (0, 1)] == [False, True]


def test_each_rate_has_buckets_of_its_own() -> None:
    buckets, slow, fast = Buckets(), Rate(1, 3600, 1), Rate(5, 1, 2)
    taken = [buckets.take("a", rate, 0) for rate in (slow, fast, slow, fast, fast)]
    assert taken == [True, True, False, True, False]
    assert buckets.take("b", slow, 0)


@given(st.integers(1, 10**9 - 1), st.integers(1, 10**9 - 1), st.integers(1, 10**9 - 1))
def test_a_rate_is_read_as_it_is_written(number: int, seconds: int, burst: int) -> None:
    rate = Rate(number, seconds, burst)
    assert Rate.parse(str(rate).encode()) == rate
    assert Rate.parse(b"%d/%d" % (number, seconds)) == Rate(number, seconds, number)
