"""Which rule decides each address, beside brute force."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.core.partition import IntervalIndex, merge_intervals
from tests.support.rules import spaces


@given(spaces.rule_sets(), spaces.families)
def test_intervals_and_counts_agree_with_brute_force(rules: spaces.Rules, family: Family) -> None:
    partition = LoadedRules.of(rules.items()).partition(family)
    intervals = list(partition.intervals())
    assert intervals[0].start == 0 and intervals[-1].end == family.size
    assert all(one.end == other.start for one, other in pairwise(intervals))
    assert all(one.rule != other.rule for one, other in pairwise(intervals))
    locator = IntervalIndex(partition)
    for number in spaces.clients(family):
        index = locator.rule_at(number)
        assert (partition.key(index), partition.rule(index)) == spaces.decide(rules, family, number)
    counts = [0] * (len(partition) + 1)
    for start, end, index in intervals:
        counts[index] += end - start
    assert partition.decided() == counts
    assert sum(counts) == family.size


@given(spaces.rule_sets(), spaces.families)
def test_a_parent_decides_when_its_child_is_gone(rules: spaces.Rules, family: Family) -> None:
    partition = LoadedRules.of(rules.items()).partition(family)
    for index, parent in enumerate(partition.parents()):
        shorter = {key: rule for key, rule in rules.items() if key not in partition.keys[index:]}
        assert spaces.decide(shorter, family, partition.numbers[index])[0] == partition.key(parent)


def test_rules_that_no_lookup_asks_for_decide_nothing() -> None:
    contents = LoadedRules.of([(b"ip4/10.0.0.1_8", Rule(True)), (b"ip6/::_0", Rule(True)), (b"uid/0", Rule(True))])
    assert len(contents.partition(Family.IP4)) == 0
    assert contents.partition(Family.IP6).keys == [b"ip6/::_0"]


def test_ranges_overlaid() -> None:
    one = [(0, 4, "a"), (4, 8, "b")]
    other = [(0, 1, 1), (1, 4, 2), (4, 5, 3), (5, 8, 4)]
    expected = [(0, 1, "a", 1), (1, 4, "a", 2), (4, 5, "b", 3), (5, 8, "b", 4)]
    assert list(merge_intervals(one, other)) == expected
    swapped = [(start, end, first, second) for start, end, second, first in merge_intervals(other, one)]
    assert swapped == expected
