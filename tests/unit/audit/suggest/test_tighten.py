"""Tightened rules decide as before for every client, and let in no more than they must, beside brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.formats import text
from s6tls.audit.minimise.minimise import Unproven
from s6tls.audit.questions.diff import Clients
from s6tls.audit.suggest.tighten import Tight, Tightened, prove_tightened, tighten
from tests.support.rules import spaces

ALLOW, DENY, STAFF = Rule(True), Rule(False), Rule(True, ((b"ROLE", b"staff"),))
OTHERS = {b"uid/0": ALLOW, b"reversedns/@": DENY}

offsets = st.sets(st.integers(-1, 256), max_size=8)
NONE_WILL_DO = 1 << 40
Decisions = dict[int, tuple[bytes | None, Rule | None]]


def seen(offsets: set[int], families: tuple[Family, ...] = (Family.IP4,)) -> Clients:
    clients = Clients()
    for family in families:
        packed = [(spaces.BASES[family] + offset).to_bytes(family.octets, "big") for offset in offsets]
        clients.add((one, 2) for one in packed)
    return clients


def decisions(rules: spaces.Rules, family: Family) -> Decisions:
    return {number: spaces.decide(rules, family, number) for number in spaces.clients(family)}


@given(spaces.rule_sets(), offsets, st.integers(1, 3), spaces.families)
def test_clients_are_decided_as_before_and_nobody_else_gets_in(
    rules: spaces.Rules, offsets: set[int], most: int, family: Family
) -> None:
    old, clients = LoadedRules.of({**rules, **OTHERS}.items()), seen(offsets, (family,))
    found = tighten(old, clients, most)
    new = found.loaded.rules
    assert len(new) == len(found.rules) and OTHERS.items() <= new.items()
    before, after = decisions(rules, family), decisions(new, family)
    for number, (_, rule) in before.items():
        now = after[number][1]
        is_client = number in clients.numbers(family)
        assert now == rule or (not is_client and rule and rule.allow and (now is None or not now.allow))
    changed = sum(before[number][1] != after[number][1] for number in before)
    wide = any(tight.was != tight.key for tight in found.rules) or found.gone
    assert changed <= prove_tightened(old, found, clients)[family]
    assert wide or not changed


@given(spaces.rule_sets(most=6), offsets, st.integers(1, 3))
def test_each_rule_gives_way_to_the_narrowest(rules: spaces.Rules, offsets: set[int], most: int) -> None:
    old, clients = LoadedRules.of(rules.items()), seen(offsets)
    found = tighten(old, clients, most)
    before = decisions(rules, Family.IP4)
    decided: dict[bytes, list[int]] = {}
    for number in clients.numbers(Family.IP4):
        key, rule = before[number]
        if key is not None and rule is not None and rule.allow:
            decided.setdefault(key, []).append(number)
    made = {key: [tight.key for tight in found.rules if tight.was == key] for key in decided}
    for key, numbers in decided.items():
        own = {number for number, (by, _) in before.items() if by == key}
        assert 1 <= len(made[key]) <= most
        assert let_in(made[key], own) == least(numbers, own, most)
    used = {key for key, _ in before.values() if key in decided}
    assert {key for key, rule in found.gone} == {key for key, rule in rules.items() if ip4_allow(key, rule)} - used | {
        key for key, rule in rules.items() if rule.allow and not key.startswith(b"ip4/")
    }


def ip4_allow(key: bytes, rule: Rule) -> bool:
    return rule.allow and key.startswith(b"ip4/")


def let_in(keys: list[bytes], own: set[int]) -> int:
    """How many of a rule's own addresses lie in networks."""
    ranges = []
    for key in keys:
        number, length = Family.IP4.parse_name(key.removeprefix(b"ip4/"))
        ranges.append(range(number, number + 2 ** (32 - length)))
    return sum(any(number in one for one in ranges) for number in own)


def least(numbers: list[int], own: set[int], most: int, start: int = 0, free: int = 32) -> int:
    """How many own addresses at most so many networks let in at the least, trying all of them."""
    inside = [number for number in numbers if start <= number < start + 2**free]
    if not inside:
        return 0
    if not most:
        return NONE_WILL_DO
    whole = sum(start <= number < start + (1 << free) for number in own)
    if not free or len(inside) == 1:
        return 1
    half = free - 1
    middle = start + 2**half
    if all(number < middle for number in inside):
        return least(inside, own, most, start, half)
    if all(number >= middle for number in inside):
        return least(inside, own, most, middle, half)
    splits = (
        least(inside, own, share, start, half) + least(inside, own, most - share, middle, half)
        for share in range(1, most)
    )
    return min(whole, *splits) if most > 1 else whole


def test_a_rule_within_another_leaves_a_guard_behind() -> None:
    rules = {
        b"ip4/10.0.0.0_8": ALLOW,
        b"ip4/10.1.0.0_16": STAFF,
        b"ip4/10.2.0.0_16": ALLOW,
        b"ip4/10.9.0.0_16": DENY,
        b"ip4/172.16.0.0_12": ALLOW,
        b"ip4/10.0.0.1_8": DENY,
        b"ip6/::_0": DENY,
        b"uid/0": ALLOW,
    }
    old = LoadedRules.of(rules.items())
    clients = spaces.clients_at("10.0.0.1", "10.8.0.1", "10.8.0.1", "10.1.2.3", "10.1.2.7", "10.9.0.1", "192.0.2.1")
    found = tighten(old, clients)
    written = found.write()
    assert written == (
        "allow ip4 10.0.0.0/12  # 2 clients, 3 hits; was ip4/10.0.0.0_8\n"
        "allow ip4 10.1.2.0/29 ROLE=staff  # 2 clients, 2 hits; was ip4/10.1.0.0_16\n"
        "deny ip4 10.9.0.0/16  # 1 client, 1 hit\n"
        "deny key ip4/10.0.0.1_8\n"
        "deny ip6 ::/0  # never used\n"
        "allow uid 0\n"
        "deny ip4 10.1.0.0/16  # was allowed by a rule that went or became narrower; a wider one would decide\n"
        "# never used: allow ip4 10.2.0.0/16\n"
        "# never used: allow ip4 172.16.0.0/12\n"
    )
    assert LoadedRules.of(text.parse(written.encode()).rules) == found.loaded
    assert found.unused == [b"ip4/10.2.0.0_16", b"ip4/172.16.0.0_12", b"ip6/::_0"]
    assert prove_tightened(old, found, clients)[Family.IP4] == (2**24 - 2**20) + (2**16 - 8) + 2**20
    narrower = tighten(old, clients, 2)
    assert [tight.key for tight in narrower.rules if tight.was == b"ip4/10.0.0.0_8"] == [
        b"ip4/10.0.0.1_32",
        b"ip4/10.8.0.1_32",
    ]
    assert Tight(b"ip4/10.1.0.0_16", DENY, None) not in narrower.rules


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({b"ip4/10.0.0.0_7": ALLOW, b"uid/0": ALLOW}, "11.0.0.0 is decided otherwise"),
        ({b"ip4/10.0.0.0_8": STAFF, b"uid/0": ALLOW}, "10.0.0.0 is decided otherwise"),
        ({b"ip4/10.1.0.0_16": ALLOW, b"uid/0": ALLOW}, "a client is refused that ip4/10.0.0.0_8 allows"),
        ({b"ip4/10.0.0.0_8": ALLOW}, "another family"),
    ],
)
def test_what_decides_otherwise_is_not_tightened(rules: spaces.Rules, problem: str) -> None:
    old = LoadedRules.of({b"ip4/10.0.0.0_8": ALLOW, b"uid/0": ALLOW}.items())
    new = Tightened([Tight(key, rule, key) for key, rule in rules.items()])
    with pytest.raises(Unproven, match=problem):
        prove_tightened(old, new, spaces.clients_at("10.2.0.1"))
