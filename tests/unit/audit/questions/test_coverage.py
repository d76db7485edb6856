"""Coverage, beside brute force."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.questions.coverage import Coverage, count_others, coverage, share
from tests.support.rules import spaces


@given(spaces.rule_sets(), spaces.families)
def test_counts_agree_with_brute_force(rules: spaces.Rules, family: Family) -> None:
    """With rules that lie among the clients, so that counting the clients counts all."""
    inside = spaces.clients(family)[1:-1]
    narrow = {key: rule for key, rule in rules.items() if int(key.rpartition(b"_")[2]) >= family.bits - 8}
    found = coverage(LoadedRules.of(narrow.items()), family)
    decided = [spaces.decide(narrow, family, number) for number in inside]
    verdicts = Counter(wording.verdict(rule) for _, rule in decided)
    assert (found.allow, found.deny) == (verdicts["allow"], verdicts["deny"])
    assert found.undecided == family.size - verdicts["allow"] - verdicts["deny"]
    keys = Counter(key for key, _ in decided if key)
    assert found.rules == {key: keys[key] for key in narrow if key.startswith(family.value.encode())}


@given(spaces.rule_sets(), spaces.families)
def test_counts_come_to_all_addresses(rules: spaces.Rules, family: Family) -> None:
    found = coverage(LoadedRules.of(rules.items()), family)
    assert found.allow + found.deny + found.undecided == 2**family.bits
    assert sum(found.rules.values()) + found.undecided == 2**family.bits
    for allow, addresses in ((True, found.allow), (False, found.deny)):
        assert sum(found.rules[key] for key in found.rules if rules[key].allow is allow) == addresses


def test_rules_that_decide_nothing() -> None:
    covered = b"ip4/10.0.0.0_8"
    halves = {b"ip4/10.0.0.0_9": Rule(True), b"ip4/10.128.0.0_9": Rule(False)}
    found = coverage(LoadedRules.of({b"ip4/10.0.0.7_8": Rule(True), covered: Rule(True), **halves}.items()), Family.IP4)
    assert list(found.rules.items()) == [
        (covered, 0),
        (b"ip4/10.0.0.0_9", 2**23),
        (b"ip4/10.128.0.0_9", 2**23),
        (b"ip4/10.0.0.7_8", 0),
    ]


def test_nothing_is_all_undecided() -> None:
    assert coverage(LoadedRules({}), Family.IP6) == Coverage(Family.IP6, 0, 0, 2**128, {})


def test_json() -> None:
    found = coverage(LoadedRules.of([(b"ip6/::_0", Rule(False))]), Family.IP6)
    assert found.json() == {"allow": 0, "deny": 2**128, "undecided": 0, "rules": {"ip6/::_0": 2**128}}


def test_rules_of_other_families_are_counted() -> None:
    keys = (b"uid/0", b"reversedns/@", b"uid/1", b"ip4/0.0.0.0_0", b"\xff/x")
    assert count_others(LoadedRules.of([(key, Rule(True)) for key in keys])) == {"\\xff": 1, "reversedns": 1, "uid": 2}


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 7, "0 %"),
        (7, 7, "100 %"),
        (1, 3, "33.33 %"),
        (2, 3, "66.67 %"),
        (1, 10, "10.00 %"),
        (1, 2**128, "<0.01 %"),
        (2**128 - 1, 2**128, ">99.99 %"),
        (1, 20000, "0.01 %"),
        (19999, 20000, ">99.99 %"),
        (9999, 10000, "99.99 %"),
    ],
)
def test_shares(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


@given(st.integers(0, 2**128), st.integers(1, 2**128))
def test_only_nothing_is_0_and_only_all_is_100_percent(part: int, more: int) -> None:
    whole = part + more
    assert (share(part, whole) == "0 %") == (part == 0)
    assert share(part, whole) != "100 %" and share(whole, whole) == "100 %"
