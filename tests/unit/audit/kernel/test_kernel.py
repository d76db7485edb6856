"""Whom the kernel refuses, and the commands that bring it there."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.kernel import Denied, NotOurs, State, Table, denied, parse, update
from s6tls.audit.kernel.denied import allows_names
from tests.support.rules import spaces

ALLOW, DENY = Rule(True), Rule(False)
TABLE = Table("t", ((443, 443), (8000, 8010)))


@given(spaces.rule_sets(), st.booleans(), spaces.families)
def test_the_kernel_refuses_who_is_denied_by_address(rules: spaces.Rules, undecided: bool, family: Family) -> None:
    ranges = denied(LoadedRules.of(rules.items()), undecided=undecided)[family]
    inside = spaces.restricted_to_clients(family, ranges)
    for number in spaces.clients(family):
        rule = spaces.decide(rules, family, number)[1]
        assert (number in inside) == (undecided if rule is None else not rule.allow)
    assert all(one[1] < other[0] for one, other in pairwise(ranges))


def test_addresses_that_stand_for_ip4_are_ip4_clients() -> None:
    first, last = 0xFFFF << 32, 0x10000 << 32
    everything = LoadedRules.of([(b"ip6/::_0", DENY)])
    assert denied(everything) == {Family.IP4: [], Family.IP6: [(0, first), (last, 2**128)]}
    for inside in (b"ip6/::ffff:0:0_96", b"ip6/::ffff:7:0_112"):
        assert denied(LoadedRules.of([(inside, DENY)]))[Family.IP6] == []


@pytest.mark.parametrize(
    ("rules", "answer"),
    [
        ({}, False),
        ({b"ip4/10.0.0.0_8": ALLOW, b"uid/0": ALLOW, b"reversedns/@": DENY}, False),
        ({b"reversedns/example.org": ALLOW}, True),
    ],
)
def test_who_may_be_allowed_by_name(rules: spaces.Rules, answer: bool) -> None:
    assert allows_names(LoadedRules.of(rules.items())) == answer


def both(ip4: list[tuple[int, int]], ip6: list[tuple[int, int]] | None = None) -> Denied:
    return {Family.IP4: ip4, Family.IP6: ip6 or []}


def test_a_table_is_made_whole() -> None:
    commands, added, removed, refilled = update(TABLE, both([(0, 1), (2, 8)], [(0, 1 << 128)]))
    assert (added, removed, refilled) == ({Family.IP4: 2, Family.IP6: 1}, {Family.IP4: 0, Family.IP6: 0}, [])
    flags = "tcp dport { 443, 8000-8010 } tcp flags & (fin | syn | rst | ack) == syn"
    marks = TABLE.marks()
    assert commands == [
        'add table inet t { comment "made by s6-accessrules"; }',
        "add set inet t denied4 { type ipv4_addr; flags interval; }",
        "add set inet t denied6 { type ipv6_addr; flags interval; }",
        "add chain inet t refuse { type filter hook input priority filter - 10; policy accept; }",
        f'add rule inet t refuse {flags} ip saddr @denied4 counter drop comment "{marks[0]}"',
        f'add rule inet t refuse {flags} ip6 saddr @denied6 counter drop comment "{marks[1]}"',
        "add element inet t denied4 { 0.0.0.0, 0.0.0.2-0.0.0.7 }",
        "add element inet t denied6 { ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff }",
    ]


def test_only_what_differs_is_changed() -> None:
    before = State(TABLE.marks(), both([(0, 1), (4, 8)], [(0, 9)]))
    assert update(TABLE, before.denied, before).commands == []
    assert update(TABLE, both([(0, 1), (5, 8)]), before) == (
        [
            "delete element inet t denied4 { 0.0.0.4-0.0.0.7 }",
            "add element inet t denied4 { 0.0.0.5-0.0.0.7 }",
            "delete element inet t denied6 { ::-::8 }",
        ],
        {Family.IP4: 1, Family.IP6: 0},
        {Family.IP4: 1, Family.IP6: 1},
        [],
    )
    counting = Table("t", TABLE.ports, log=True)
    commands = update(counting, before.denied, before).commands
    assert [command.split()[0] for command in commands] == ["flush", "add", "add"]
    assert 'limit rate 10/second burst 10 packets log prefix "t deny "' in commands[1] and "drop" not in commands[1]


def test_a_large_set_with_many_differences_is_filled_anew() -> None:
    many = [(number, number + 1) for number in range(0, 6000, 2)]
    fewer = many[1000:]
    state = State(TABLE.marks(), both(many))
    commands, added, removed, refilled = update(TABLE, both(fewer), state)
    assert (added[Family.IP4], removed[Family.IP4], refilled) == (0, 1000, [Family.IP4])
    assert commands[0] == "flush set inet t denied4"
    assert sum(command.count(",") + 1 for command in commands[1:]) == len(fewer)
    assert all(command.startswith("add element inet t denied4 {") for command in commands[1:])


def listing(*objects: object) -> bytes:
    return json.dumps({"nftables": [{"metainfo": {"version": "1"}}, {"table": {"name": "t"}}, *objects]}).encode()


CHAIN = {"chain": {"name": "refuse"}}
RULE = {"rule": {"comment": "s6-accessrules 0123"}}
SET6 = {"set": {"name": "denied6"}}


def set4(*elements: object) -> object:
    return {"set": {"name": "denied4", "elem": list(elements)}}


def test_what_nft_says_is_read() -> None:
    elements = ["10.0.0.9", {"range": ["10.0.0.1", "10.0.0.3"]}, {"prefix": {"addr": "10.1.0.0", "len": 16}}]
    state = parse(listing(set4(*elements), SET6, CHAIN, RULE))
    ten = 10 << 24
    ranges = [(ten + 1, ten + 4), (ten + 9, ten + 10), (ten + (1 << 16), ten + (2 << 16))]
    assert state == State(["s6-accessrules 0123"], both(ranges))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b'{"nftables": [[]]}',
        listing(),
        listing(set4(), SET6, CHAIN),
        listing(set4(), SET6, CHAIN, {"rule": {}}),
        listing(set4(), SET6, CHAIN, RULE, {"rule": {"comment": "mine"}}),
        listing(set4(), SET6, CHAIN, CHAIN, RULE),
        listing(set4(), SET6, CHAIN, RULE, {"map": {}}),
        listing(set4(), CHAIN, RULE),
        listing(set4(), SET6, SET6, {"set": {"name": "other"}}, CHAIN, RULE),
        listing(set4("::1"), SET6, CHAIN, RULE),
        listing(set4("x"), SET6, CHAIN, RULE),
        listing(set4({"elem": {}}), SET6, CHAIN, RULE),
        listing(set4({"range": ["10.0.0.1"]}), SET6, CHAIN, RULE),
        listing(set4({"prefix": {"addr": "10.0.0.0", "len": "x"}}), SET6, CHAIN, RULE),
        b"[" * 100_000,
    ],
)
def test_what_is_not_ours_is_told_apart(text: bytes) -> None:
    with pytest.raises(NotOurs):
        parse(text)
