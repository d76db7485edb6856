"""Rules for clients are the narrowest, beside a search through all networks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, Network, parse_cidr
from s6tls.audit.formats import text
from s6tls.audit.minimise.minimise import Unproven
from s6tls.audit.questions.diff import Clients
from s6tls.audit.suggest.forest import Limit
from s6tls.audit.suggest.known import Known
from s6tls.audit.suggest.suggest import Suggestion, Unreachable, prove_suggestion, suggest
from tests.support.rules import spaces

ALLOW, DENY, STAFF = Rule(True), Rule(False), Rule(True, ((b"ROLE", b"staff"),))
BITS = 5
"""Clients lie in a network of each family with so many free bits."""

Costs = dict[int, int]
"""The fewest addresses that so many rules let in."""

offsets = st.sets(st.integers(0, 2**BITS - 1), max_size=8)


@st.composite
def rule_sets(draw: st.DrawFn) -> spaces.Rules:
    found: spaces.Rules = {}
    for family, base in spaces.BASES.items():
        for _ in range(draw(st.integers(0, 6))):
            free = draw(st.integers(0, BITS + 1))
            key = spaces.KEY[family](base + draw(st.integers(0, 2**BITS - 1)), family.bits - free)
            found[key] = draw(st.sampled_from((ALLOW, ALLOW, DENY, STAFF)))
    return found


def seen(offsets: set[int], families: tuple[Family, ...] = (Family.IP4,)) -> Clients:
    clients = Clients()
    for family in families:
        base = spaces.BASES[family]
        clients.add(((base + offset).to_bytes(family.octets, "big"), 1 + offset % 3) for offset in offsets)
    return clients


def costs(wanted: frozenset[int], decisions: tuple[Rule | None, ...], start: int = 0, free: int = BITS) -> Costs:
    """What rules for the clients in a network may let in, found by trying all networks."""
    inside = range(start, start + 2**free)
    if not any(number in wanted for number in inside):
        return {0: 0}
    found: Costs = {}
    decided = {decisions[number] for number in inside}
    if len(decided) == 1 and (rule := next(iter(decided))) and rule.allow:
        found[1] = 2**free
    if free:
        halves = [costs(wanted, decisions, start + half, free - 1) for half in (0, 2 ** (free - 1))]
        for one, cost in halves[0].items():
            for other, more in halves[1].items():
                found[one + other] = min(found.get(one + other, cost + more), cost + more)
    return found


def decisions(rules: spaces.Rules | None, family: Family) -> tuple[Rule | None, ...]:
    numbers = range(spaces.BASES[family], spaces.BASES[family] + 2**BITS)
    return tuple(ALLOW if rules is None else spaces.decide(rules, family, number)[1] for number in numbers)


def model(rules: spaces.Rules | None, family: Family, offsets: set[int]) -> tuple[frozenset[int], Costs]:
    decided = decisions(rules, family)
    wanted = frozenset(offset for offset in offsets if (rule := decided[offset]) and rule.allow)
    return wanted, costs(wanted, decided)


def made(found: Suggestion) -> tuple[int, int]:
    return len(found.proposals), sum(proposal.addresses for proposal in found.proposals)


@given(st.none() | rule_sets(), offsets, st.integers(1, 9), spaces.families)
def test_so_many_rules_let_in_no_more_than_they_must(
    rules: spaces.Rules | None, offsets: set[int], most: int, family: Family
) -> None:
    below = None if rules is None else LoadedRules.of(rules.items())
    clients = seen(offsets, (family,))
    wanted, known = model(rules, family, offsets)
    allowed = {number: cost for number, cost in known.items() if number <= most}
    if not allowed:
        with pytest.raises(Unreachable):
            suggest(clients, below, Limit(rules=most))
        return
    found = suggest(clients, below, Limit(rules=most))
    assert made(found)[1] == min(allowed.values())
    assert made(found)[0] <= most and not found.excess
    assert found.outside[0] == len(offsets - wanted)
    assert_it_is_proved(found, clients, rules, family)


@given(st.none() | rule_sets(), offsets, st.integers(0, 40))
def test_so_many_addresses_take_the_fewest_rules(rules: spaces.Rules | None, offsets: set[int], budget: int) -> None:
    below = None if rules is None else LoadedRules.of(rules.items())
    clients = seen(offsets, tuple(Family))
    models = [model(rules, family, offsets) for family in Family]
    must = sum(len(wanted) for wanted, _ in models)
    (_, four), (_, six) = models
    allowed = [
        (one + other, cost + more)
        for one, cost in four.items()
        for other, more in six.items()
        if cost + more - must <= budget
    ]
    found = suggest(clients, below, Limit(addresses=budget))
    assert made(found) == min(allowed)
    for family in Family:
        assert_it_is_proved(found, clients, rules, family)


def assert_it_is_proved(found: Suggestion, clients: Clients, rules: spaces.Rules | None, family: Family) -> None:
    """The proof holds, and says what is true of each address."""
    lost = prove_suggestion(found, clients, None if rules is None else LoadedRules.of(rules.items()))
    after = found.loaded.rules
    gone = 0
    for number in spaces.clients(family):
        now = spaces.decide(after, family, number)[1]
        before = ALLOW if rules is None else spaces.decide(rules, family, number)[1]
        assert now is None or now == before
        if number in clients.numbers(family):
            assert now == (before if before and before.allow else None)
        gone += rules is not None and before is not None and before.allow and now is None
    if rules is not None:
        assert lost[family] == gone


@given(offsets, st.integers(1, 4))
def test_what_each_rule_lets_in_is_counted(offsets: set[int], most: int) -> None:
    clients = seen(offsets)
    found = suggest(clients, limit=Limit(rules=most))
    assert sum(proposal.clients for proposal in found.proposals) == len(offsets)
    assert sum(proposal.hits for proposal in found.proposals) == sum(1 + offset % 3 for offset in offsets)
    for proposal in found.proposals:
        start, end = proposal.network.range
        assert proposal.beyond == len(set(range(start, end)) - {spaces.BASES[Family.IP4] + n for n in offsets})


def test_known_networks_come_whole_and_at_no_cost() -> None:
    known = Known(
        (parse_cidr(network), name)
        for network, name in {"10.1.0.0/16": "alpha", "10.1.2.0/24": "beta", "172.16.0.0/12": "", "::/0": ""}.items()
    )
    clients = spaces.clients_at("10.1.2.3", "10.1.9.9", "172.16.0.1", "192.0.2.1", "2001:db8::1")
    found = suggest(clients, known=known)
    assert [(str(proposal.network), proposal.known) for proposal in found.proposals] == [
        ("10.1.0.0/16", ("alpha", "beta")),
        ("172.16.0.0/12", ("172.16.0.0/12",)),
        ("192.0.2.1/32", ()),
        ("::/0", ("::/0",)),
    ]
    below = LoadedRules.of([(b"ip4/10.1.0.0_17", STAFF), (b"ip4/172.16.0.0_12", STAFF)])
    found = suggest(clients, below, known=known)
    assert [str(proposal.network) for proposal in found.proposals] == ["10.1.2.0/24", "10.1.9.9/32", "172.16.0.0/12"]
    assert {proposal.rule for proposal in found.proposals} == {STAFF}
    assert found.outside == (2, 2)


def test_the_text_says_what_each_rule_is_for() -> None:
    known = Known([(parse_cidr(f"10.{n}.0.0/16"), f"net {n}") for n in range(4)])
    clients = spaces.clients_at("10.0.0.1", "10.1.0.1", "10.2.0.1", "10.3.0.1", "192.0.2.1", "192.0.2.1")
    found = suggest(clients, known=known)
    written = text.write(proposal.entry() for proposal in found.proposals)
    assert written == (
        "allow ip4 10.0.0.0/14  # 4 clients, 4 hits; 262,140 beyond; known: net 0, net 1, net 2 and 1 more\n"
        "allow ip4 192.0.2.1/32  # 1 client, 2 hits; none beyond\n"
    )
    assert LoadedRules.of(text.parse(written.encode()).rules) == found.loaded


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({}, "10.0.0.1 is decided otherwise"),
        ({b"ip4/10.0.0.0_31": ALLOW}, "10.0.0.0 is decided otherwise"),
        ({b"ip4/10.0.0.1_32": STAFF}, "10.0.0.1 is decided otherwise"),
    ],
)
def test_what_decides_otherwise_is_no_suggestion(
    rules: spaces.Rules, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = spaces.clients_at("10.0.0.1")
    found = suggest(clients)
    monkeypatch.setattr(Suggestion, "loaded", LoadedRules.of(rules.items()))
    with pytest.raises(Unproven, match=problem):
        prove_suggestion(found, clients, LoadedRules.of([(b"ip4/10.0.0.1_32", ALLOW)]))


def test_many_clients_take_few_rules() -> None:
    network = Network(Family.IP6, parse_cidr("2001:db8::/64").number, 64)
    clients = spaces.clients_at(*(network.family.text(network.number + (n * n << 40)) for n in range(300)))
    for most in (1, 2, 50):
        found = suggest(clients, limit=Limit(rules=most))
        assert len(found.proposals) <= most and not found.excess
        prove_suggestion(found, clients)
