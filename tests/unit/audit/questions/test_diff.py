"""Differences of two rule sets, beside brute force and the standard library."""

from __future__ import annotations

import ipaddress
from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.accessrules.keys import name_keys
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, parse_cidr
from s6tls.audit.core.wording import Decided
from s6tls.audit.questions.diff import Clients, Difference, differences, other_differences
from tests.support.rules import spaces

ALLOW, DENY = Rule(True), Rule(False)
STAFF = Rule(True, ((b"ROLE", b"staff"),))


def between(old: spaces.Rules, new: spaces.Rules, *families: Family) -> list[Difference]:
    return differences(LoadedRules.of(old.items()), LoadedRules.of(new.items()), families or Family)


# Addresses


@given(spaces.rule_sets(), spaces.rule_sets(), spaces.families)
def test_differences_agree_with_brute_force(old: spaces.Rules, new: spaces.Rules, family: Family) -> None:
    found = {}
    for difference in between(old, new, family):
        for number in spaces.restricted_to_clients(family, difference.ranges):
            assert number not in found
            found[number] = difference.before, difference.after
    expected = {}
    for number in spaces.clients(family):
        before, after = spaces.decide(old, family, number), spaces.decide(new, family, number)
        if before[1] != after[1]:
            expected[number] = before, after
    assert found == expected


@given(spaces.rule_sets(), spaces.rule_sets())
def test_each_difference_has_two_rules_of_its_own_and_comes_in_order(old: spaces.Rules, new: spaces.Rules) -> None:
    found = between(old, new)
    pairs = [(difference.family, difference.before.key, difference.after.key) for difference in found]
    assert len(set(pairs)) == len(pairs)
    firsts = [(list(Family).index(difference.family), difference.ranges[0]) for difference in found]
    assert firsts == sorted(firsts)
    for difference in found:
        assert all(one[1] < other[0] for one, other in pairwise(difference.ranges))
        assert difference.before.rule != difference.after.rule


@given(spaces.rule_sets(), spaces.rule_sets())
def test_prefixes_are_as_few_as_can_be_and_hold_all_addresses(old: spaces.Rules, new: spaces.Rules) -> None:
    for difference in between(old, new):
        networks = [ipaddress.ip_network(prefix) for prefix in difference.prefixes]
        assert networks == list(ipaddress.collapse_addresses(networks))  # type: ignore[type-var]
        assert sum(network.num_addresses for network in networks) == difference.addresses
        assert difference.count_prefixes() == len(networks)
        assert difference.witness == str(networks[0][0])
        held = [parse_cidr(prefix).range for prefix in difference.prefixes]
        assert all(any(s <= start and end <= e for s, e in difference.ranges) for start, end in held)


@given(st.lists(st.integers(0, 2**32), min_size=2, unique=True), st.integers(0, 96))
def test_prefixes_of_any_ranges_are_counted(bounds: list[int], shift: int) -> None:
    ends = [bound << shift for bound in sorted(bounds)]
    nobody = Decided(None, None)
    difference = Difference(Family.IP6, list(zip(ends[::2], ends[1::2], strict=False)), nobody, nobody)
    assert difference.count_prefixes() == len(difference.prefixes)


@given(spaces.rule_sets())
def test_a_set_does_not_differ_from_itself(rules: spaces.Rules) -> None:
    assert between(rules, rules) == []


@given(spaces.rule_sets(), spaces.rule_sets())
def test_the_other_way_round_before_and_after_change_places(old: spaces.Rules, new: spaces.Rules) -> None:
    there = [(d.family, d.ranges, d.before, d.after) for d in between(old, new)]
    back = [(d.family, d.ranges, d.after, d.before) for d in between(new, old)]
    assert there == back


@given(spaces.rule_sets(), spaces.families)
def test_without_rules_the_differences_are_what_is_decided(rules: spaces.Rules, family: Family) -> None:
    found = between({}, rules, family)
    decided = {number for number in spaces.clients(family) if spaces.decide(rules, family, number)[0]}
    assert set().union(*(spaces.restricted_to_clients(family, d.ranges) for d in found)) == decided


def test_rules_that_decide_equally_are_no_difference() -> None:
    old = {b"ip4/10.0.0.0_8": Rule(True, ((b"A", b"1"), (b"B", None)))}
    halves = (b"ip4/10.0.0.0_9", b"ip4/10.128.0.0_9")
    assert between(old, {key: Rule(True, ((b"B", None), (b"A", b"1"))) for key in halves}) == []


def test_rules_that_no_lookup_asks_for_are_no_difference() -> None:
    assert between({b"ip4/10.0.0.1_8": ALLOW, b"ip6/0::_0": ALLOW}, {}) == []


def test_json_of_addresses() -> None:
    old = {b"ip4/10.0.0.0_8": ALLOW, b"ip4/10.1.0.0_16": DENY}
    new = {b"ip4/10.0.0.0_8": STAFF, b"ip4/10.1.0.0_16": DENY}
    (found,) = between(old, new)
    assert found.json() == {
        "family": "ip4",
        "prefixes": [
            "10.0.0.0/16",
            "10.2.0.0/15",
            "10.4.0.0/14",
            "10.8.0.0/13",
            "10.16.0.0/12",
            "10.32.0.0/11",
            "10.64.0.0/10",
            "10.128.0.0/9",
        ],
        "addresses": 2**24 - 2**16,
        "before": {"verdict": "allow", "rule": "ip4/10.0.0.0_8", "env": {"set": {}, "unset": []}, "exec": None},
        "after": {
            "verdict": "allow",
            "rule": "ip4/10.0.0.0_8",
            "env": {"set": {"ROLE": "staff"}, "unset": []},
            "exec": None,
        },
    }


def test_all_of_ipv6_is_one_prefix() -> None:
    (found,) = between({}, {b"ip6/::_0": DENY})
    assert (found.family, found.prefixes, found.addresses) == (Family.IP6, ["::/0"], 2**128)
    assert found.before.key is None and found.before.json()["verdict"] == "notfound"


# Clients of logs


@given(spaces.rule_sets(), spaces.rule_sets(), spaces.families, st.data())
def test_clients_agree_with_brute_force(
    old: spaces.Rules, new: spaces.Rules, family: Family, data: st.DataObject
) -> None:
    lines = data.draw(st.lists(st.tuples(st.sampled_from(spaces.clients(family)), st.integers(1, 9)), max_size=20))
    clients = Clients()
    for number, hits in lines:
        clients.add([(number.to_bytes(family.bits // 8, "big"), hits)])
    for difference in between(old, new):
        touched = [
            (number, hits)
            for number, hits in lines
            if difference.family is family and spaces.restricted_to_clients(family, difference.ranges) & {number}
        ]
        assert clients.within(difference) == (len({number for number, _ in touched}), sum(hits for _, hits in touched))


# Names, uids, gids and others

LABELS = [b"a", b"b", b"A", b""]
NAMES = [b".".join(labels) for count in (1, 2, 3) for labels in product(LABELS, repeat=count)]
name_rules = st.dictionaries(
    st.sampled_from([b"reversedns/" + name for name in (*NAMES, b"@", b"x/y")]), st.sampled_from([ALLOW, DENY, STAFF])
)


def decide_name(rules: spaces.Rules, name: bytes) -> tuple[bytes | None, Rule | None]:
    return next(((key, rules[key]) for key in name_keys(name) if key in rules), (None, None))


@given(name_rules, name_rules)
def test_names_agree_with_brute_force(old: spaces.Rules, new: spaces.Rules) -> None:
    found = other_differences(LoadedRules.of(old.items()), LoadedRules.of(new.items()))
    pairs = {(difference.before, difference.after) for difference in found}
    hosts = [*NAMES, *(name + b".c" for name in NAMES), *(b"c." + name for name in NAMES), b"@"]
    hosts += [host + b"." for host in hosts]
    expected = set()
    for host in hosts:
        before, after = decide_name(old, host), decide_name(new, host)
        if before[1] != after[1]:
            expected.add((before, after))
    assert pairs == expected
    assert len(found) == len(pairs)


def test_json_of_a_name() -> None:
    old = LoadedRules.of([(b"reversedns/org", ALLOW), (b"reversedns/@", DENY)])
    new = LoadedRules.of([(b"reversedns/@", DENY)])
    (found,) = other_differences(old, new)
    assert found.json() == {
        "family": "reversedns",
        "prefixes": ["org"],
        "addresses": None,
        "before": {"verdict": "allow", "rule": "reversedns/org", "env": {"set": {}, "unset": []}, "exec": None},
        "after": {"verdict": "deny", "rule": "reversedns/@", "env": {"set": {}, "unset": []}, "exec": None},
    }


def test_uids_and_families_unknown_are_compared_rule_by_rule() -> None:
    old = LoadedRules.of([(b"uid/0", ALLOW), (b"uid/default", DENY), (b"gid/7", ALLOW), (b"stray", DENY)])
    new = LoadedRules.of([(b"uid/0", DENY), (b"uid/default", DENY), (b"unix/x", STAFF), (b"ip4/0.0.0.0_0", DENY)])
    found = [(d.key, d.before, d.after) for d in other_differences(old, new)]
    none = (None, None)
    assert found == [
        (b"gid/7", (b"gid/7", ALLOW), none),
        (b"stray", (b"stray", DENY), none),
        (b"uid/0", (b"uid/0", ALLOW), (b"uid/0", DENY)),
        (b"unix/x", none, (b"unix/x", STAFF)),
    ]
