"""Minimising real prefixes, beside what the standard library makes of them."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable

import pytest

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, prefixes
from s6tls.audit.minimise.minimise import minimise, proof
from tests.support.rules import clouds


def collapse(family: Family, networks: Iterable[tuple[int, int]]) -> int:
    """How many networks, given by number and length, are left by the standard library."""
    if family is Family.IP4:
        return len(list(ipaddress.collapse_addresses(map(ipaddress.IPv4Network, networks))))
    return len(list(ipaddress.collapse_addresses(map(ipaddress.IPv6Network, networks))))


def collapsed(rules: dict[bytes, Rule], family: Family) -> int:
    """How many networks it takes if each decision is collapsed by itself; the longest prefix decides."""
    partition = LoadedRules(rules).partition(family)
    networks: dict[Rule, list[tuple[int, int]]] = defaultdict(list)
    for start, end, index in partition.intervals():
        rule = partition.rule(index)
        if rule is not None:
            networks[rule] += [(number, family.bits - free) for number, free in prefixes(start, end)]
    return sum(collapse(family, some) for some in networks.values())


def minimised(rules: dict[bytes, Rule]) -> int:
    contents = LoadedRules.of(rules.items())
    small = minimise(contents)
    assert proof(contents, small.loaded) == []
    return small.after


@pytest.mark.parametrize("family", Family)
def test_equal_decisions_take_no_more_than_collapsing(family: Family) -> None:
    rules = clouds.rules(family, lambda provider: clouds.ALLOW)
    assert minimised(rules) == collapse(family, clouds.ranges(family)) < len(rules)


def test_different_decisions_take_fewer_than_collapsing_each() -> None:
    rules = clouds.rules(Family.IP4, clouds.by_provider) | clouds.bogon_rules()
    assert minimised(rules) < collapsed(rules, Family.IP4)


def test_exceptions_from_a_default_take_far_fewer_than_collapsing_each() -> None:
    rules = clouds.rules(Family.IP4, lambda provider: clouds.ALLOW) | clouds.bogon_rules()
    rules[b"ip4/0.0.0.0_0"] = clouds.DENY
    assert 2 * minimised(rules) < collapsed(rules, Family.IP4)
