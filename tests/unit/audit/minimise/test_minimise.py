"""Smaller rule sets decide equally, or as a budget allows, beside brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, Network, parse_cidr
from s6tls.audit.minimise.lossy import Budget
from s6tls.audit.minimise.minimise import Unproven, minimise, proof
from s6tls.audit.questions.diff import Difference, differences, other_differences
from tests.support.rules import spaces

ALLOW, DENY = Rule(True), Rule(False)
OTHERS = {b"uid/0": ALLOW, b"reversedns/@": DENY, b"reversedns/org": DENY, b"custom/x": ALLOW, b"stray": DENY}

protected = st.lists(
    st.builds(
        lambda family, free, offset: Network(family, spaces.BASES[family] + offset >> free << free, family.bits - free),
        spaces.families,
        st.integers(0, 8),
        st.integers(0, 255),
    ),
    max_size=3,
).map(tuple)


def contents(rules: spaces.Rules) -> LoadedRules:
    return LoadedRules.of(rules.items())


def changes(old: LoadedRules, new: LoadedRules) -> list[Difference]:
    assert other_differences(old, new) == []
    return differences(old, new)


@given(spaces.rule_sets(), spaces.families)
def test_every_address_is_decided_equally(rules: spaces.Rules, family: Family) -> None:
    small = minimise(contents(rules)).loaded.rules
    for number in spaces.clients(family):
        assert spaces.decide(small, family, number)[1] == spaces.decide(rules, family, number)[1]


@given(spaces.rule_sets())
def test_the_difference_is_empty_and_rules_are_no_more(rules: spaces.Rules) -> None:
    small = minimise(contents(rules))
    assert proof(contents(rules), small.loaded) == []
    assert small.before == len(rules)
    assert small.after == len(small.loaded.rules) <= small.before


@given(spaces.rule_sets())
def test_minimising_again_changes_nothing(rules: spaces.Rules) -> None:
    once = minimise(contents(rules)).loaded
    assert minimise(once).loaded == once


@given(spaces.rule_sets())
def test_no_rule_can_be_left_out_of_what_remains(rules: spaces.Rules) -> None:
    small = minimise(contents(rules)).loaded
    for key in small.rules:
        assert differences(small, LoadedRules({k: rule for k, rule in small.rules.items() if k != key}))


def test_dead_rules_go_and_other_families_stay() -> None:
    dead = {b"ip4/10.0.0.1_8": ALLOW, b"ip6/0::_0": DENY, b"ip4/x": ALLOW}
    halves = {b"ip4/10.0.0.0_9": ALLOW, b"ip4/10.128.0.0_9": ALLOW}
    small = minimise(contents({**dead, **halves, **OTHERS}))
    assert small.loaded.rules == {b"ip4/10.0.0.0_8": ALLOW, **OTHERS}
    assert (small.dead, small.others, small.before, small.after) == (3, len(OTHERS), 5 + len(OTHERS), 1 + len(OTHERS))
    assert small.rules == {Family.IP4: (4, 1), Family.IP6: (1, 0)}
    assert small.json([]) == {
        "before": 10,
        "after": 6,
        "families": {"ip4": {"before": 4, "after": 1}, "ip6": {"before": 1, "after": 0}},
        "changed": [],
        "addresses": 0,
    }


def test_env_and_exec_are_kept_distinct() -> None:
    rules = {b"ip4/10.0.0.0_9": Rule(True, ((b"A", b""),)), b"ip4/10.128.0.0_9": Rule(True, ((b"A", None),))}
    assert minimise(contents(rules)).after == 2


# Budgets


@given(spaces.rule_sets(), st.integers(0, 300), protected)
def test_a_budget_is_kept(rules: spaces.Rules, addresses: int, networks: tuple[Network, ...]) -> None:
    old = contents(rules)
    small = minimise(old, Budget(addresses, networks))
    changed = changes(old, small.loaded)
    assert sum(difference.addresses for difference in changed) <= addresses
    assert all(difference.after.rule is not None for difference in changed)
    for network in networks:
        numbers = set(spaces.clients(network.family)) & set(range(*network.range))
        for number in numbers:
            before, after = (spaces.decide(it.rules, network.family, number)[1] for it in (old, small.loaded))
            assert before == after
    assert proof(old, small.loaded, Budget(addresses, networks)) == changed
    plain = minimise(old)
    assert small.after <= plain.after
    if not addresses:
        assert small == plain


@given(spaces.rule_sets())
def test_what_is_wholly_protected_does_not_change(rules: spaces.Rules) -> None:
    everything = (parse_cidr("0.0.0.0/0"), parse_cidr("::/0"))
    assert minimise(contents(rules), Budget(2**129, everything)) == minimise(contents(rules))


@pytest.mark.parametrize("order", [1, -1])
def test_a_network_is_protected_beside_its_own_first_part(order: int) -> None:
    networks = (parse_cidr("10.0.0.0/8"), parse_cidr("10.0.0.0/16"))[::order]
    rules = {b"ip4/10.0.0.0_8": ALLOW, b"ip4/10.9.9.9_32": DENY}
    assert minimise(contents(rules), Budget(1, networks)).loaded.rules == rules
    with pytest.raises(Unproven, match="protected"):
        proof(contents(rules), contents({b"ip4/10.0.0.0_8": ALLOW}), Budget(1, networks))


def test_exceptions_go_first_that_cost_least() -> None:
    rules = {
        b"ip4/10.0.0.0_8": ALLOW,
        b"ip4/10.1.0.0_31": DENY,
        b"ip4/10.2.0.0_32": DENY,
        b"ip4/10.3.0.0_32": Rule(True, ((b"A", b"1"),)),
    }
    assert set(minimise(contents(rules), Budget(1)).loaded.rules) == {*rules} - {b"ip4/10.2.0.0_32"}
    assert set(minimise(contents(rules), Budget(2)).loaded.rules) == {b"ip4/10.0.0.0_8", b"ip4/10.1.0.0_31"}
    assert set(minimise(contents(rules), Budget(4)).loaded.rules) == {b"ip4/10.0.0.0_8"}


def test_holes_are_filled_for_one_rule_instead_of_many() -> None:
    rules = {b"ip4/10.0.0.%d_32" % i: ALLOW for i in range(256) if i not in (3, 77)}
    small = minimise(contents(rules), Budget(2)).loaded
    assert small.rules == {b"ip4/10.0.0.0_24": ALLOW}
    spared = minimise(contents(rules), Budget(2, (parse_cidr("10.0.0.3/32"),))).loaded
    assert [d.prefixes for d in changes(contents(rules), spared)] == [["10.0.0.77/32"]]


def test_addresses_are_never_left_undecided() -> None:
    assert minimise(contents({b"ip4/10.0.0.0_32": ALLOW}), Budget(2**128)).loaded.rules == {b"ip4/10.0.0.0_32": ALLOW}


def test_a_budget_is_for_both_families_together() -> None:
    rules = {
        b"ip4/10.0.0.0_8": ALLOW,
        b"ip4/10.2.0.0_32": DENY,
        b"ip6/2001:db8::_32": ALLOW,
        b"ip6/2001:db8::7_128": DENY,
    }
    assert minimise(contents(rules), Budget(1)).after == 3
    assert minimise(contents(rules), Budget(2)).after == 2


# The proof


@pytest.mark.parametrize(
    ("new", "budget", "problem"),
    [
        ({b"ip4/10.0.0.0_8": DENY, **OTHERS}, Budget(2**24 - 1), "differently: 16,777,216"),
        (OTHERS, Budget(2**24), r"10\.0\.0\.0 is no longer decided"),
        ({b"ip4/10.0.0.0_8": DENY, **OTHERS}, Budget(2**24, (parse_cidr("10.9.0.0/16"),)), "protected"),
        ({b"ip4/10.0.0.0_8": ALLOW}, Budget(2**24), "another family"),
    ],
)
def test_what_changes_too_much_is_refused(new: spaces.Rules, budget: Budget, problem: str) -> None:
    with pytest.raises(Unproven, match=problem):
        proof(contents({b"ip4/10.0.0.0_8": ALLOW, **OTHERS}), contents(new), budget)
