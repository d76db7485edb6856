"""Expectations judged, beside brute force over all clients of small spaces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, Network, parse_cidr
from s6tls.audit.core.partition import Interval, IntervalIndex
from s6tls.audit.policy.expect import Violation, violations, violations_of
from s6tls.audit.policy.expectations import WANTS, Expectation, parse
from s6tls.audit.questions.coverage import coverage
from tests.support.rules import spaces


@st.composite
def networks(draw: st.DrawFn) -> Network:
    family = draw(spaces.families)
    free = draw(st.integers(0, 8) | st.sampled_from([9, 16, family.bits]))
    number = spaces.BASES[family] + draw(st.integers(0, 255))
    return Network(family, number >> free << free, family.bits - free)


@st.composite
def expectations(draw: st.DrawFn) -> Expectation:
    wanted = draw(st.sampled_from(WANTS))
    listed = tuple(draw(st.lists(networks(), min_size=wanted != "only", max_size=4)))
    if wanted != "allow":
        return Expectation(1, wanted, listed)
    env = draw(st.sampled_from([(), ((b"ROLE", b"staff"),), ((b"ROLE", None),), ((b"OTHER", b""),)]))
    exec_ = draw(st.sampled_from([None, None, b"", b"echo hello"]))
    return Expectation(1, wanted, listed, env=env, exec=exec_)


def is_met(expectation: Expectation, rule: Rule | None) -> bool:
    if expectation.wanted == "only":
        return not (rule and rule.allow)
    if expectation.wanted == "deny":
        return rule == Rule(False)
    if rule is None or not rule.allow or not set(expectation.env) <= set(rule.env):
        return False
    return expectation.exec in (None, rule.exec)


def lies_in(network: Network, family: Family, number: int) -> bool:
    return network.family is family and network.range[0] <= number < network.range[1]


def failing_clients(rules: spaces.Rules, expectation: Expectation, network: Network) -> set[int]:
    """Which clients of a network fail."""
    family = network.family
    clients = {number for number in spaces.clients(family) if lies_in(network, family, number)}
    if expectation.wanted == "only":
        listed = expectation.networks
        clients = {number for number in clients if not any(lies_in(other, family, number) for other in listed)}
    return {number for number in clients if not is_met(expectation, spaces.decide(rules, family, number)[1])}


@given(spaces.rule_sets(), expectations())
def test_judgements_agree_with_brute_force(rules: spaces.Rules, expectation: Expectation) -> None:
    only = expectation.wanted == "only"
    judged = [Network(family, 0, 0) for family in Family] if only else expectation.networks
    told = list(violations(LoadedRules.of(rules.items()), [expectation]))
    for network in judged:
        failing = failing_clients(rules, expectation, network)
        violation = next((violation for violation in told if violation.network == network), None)
        ranges = violation.ranges if violation else ()
        assert spaces.restricted_to_clients(network.family, list(ranges)) == failing
        if network.range[1] - network.range[0] <= 256:
            assert sum(end - start for start, end in ranges) == len(failing)
    assert [violation.network for violation in told] == [
        network for network in judged if any(violation.network == network for violation in told)
    ]


@given(spaces.rule_sets(), expectations())
def test_counterexamples_are_the_first_that_fail(rules: spaces.Rules, expectation: Expectation) -> None:
    for violation in violations(LoadedRules.of(rules.items()), [expectation]):
        family = violation.network.family
        network = parse_cidr(violation.counterexample)
        assert network.family is family
        assert (violation.key, violation.rule) == spaces.decide(rules, family, network.number)
        assert not is_met(expectation, violation.rule)
        failing = [parse_cidr(prefix) for prefix in violation.prefixes]
        assert min(prefix.number for prefix in failing) == network.number
        assert sum(1 << family.bits - prefix.length for prefix in failing) == violation.addresses


@given(spaces.rule_sets(), spaces.families)
def test_what_fails_everywhere_is_what_coverage_counts(rules: spaces.Rules, family: Family) -> None:
    contents = LoadedRules.of(rules.items())
    everything = Network(family, 0, 0)

    def failing(wanted: str, *networks: Network) -> int:
        told = violations(contents, [Expectation(1, wanted, networks)])
        return sum(violation.addresses for violation in told if violation.network == everything)

    counted = coverage(contents, family)
    assert failing("only") == counted.allow
    assert failing("deny", everything) == counted.allow + counted.undecided
    assert failing("allow", everything) == counted.deny + counted.undecided


@given(spaces.rule_sets(), networks())
def test_a_part_of_a_space_is_cut_as_the_whole(rules: spaces.Rules, network: Network) -> None:
    partition = LoadedRules.of(rules.items()).partition(network.family)
    start, end = network.range
    whole = [
        Interval(max(s, start), min(e, end), index) for s, e, index in partition.intervals() if s < end and start < e
    ]
    assert list(IntervalIndex(partition).within(start, end)) == whole
    assert list(IntervalIndex(partition).within(start, start)) == []


RULES = {
    b"ip4/192.0.2.0_24": Rule(True, ((b"DEBUG", None), (b"ROLE", b"staff"))),
    b"ip4/192.0.2.128_25": Rule(True, ((b"ROLE", b"guest"),), b"echo hello"),
    b"ip4/192.0.2.255_32": Rule(False),
    b"ip6/2001:db8::_32": Rule(True),
    b"reversedns/@": Rule(True),
}


def judged(text: str) -> list[Violation]:
    return list(violations(LoadedRules.of(RULES.items()), parse(text.encode())))


def test_json() -> None:
    (violation,) = judged("""
        expect = [{ allow = ["192.0.2.0/25", "192.0.2.128/25"], env = { ROLE = "staff" }, about = "the office" }]
    """)
    assert violation.json() == {
        "expectation": 1,
        "about": "the office",
        "prefix": "192.0.2.128/25",
        "wanted": "allow",
        "counterexample": "192.0.2.128",
        "addresses": 128,
        "prefixes": ["192.0.2.128/25"],
        "got": {
            "verdict": "allow",
            "rule": "ip4/192.0.2.128_25",
            "env": {"set": {"ROLE": "guest"}, "unset": []},
            "exec": "echo hello",
        },
    }


def test_lines_for_people() -> None:
    (violation,) = judged('expect = [{ only = ["192.0.2.1", "2001:db8::/32"], about = "one of us" }]')
    assert violation.lines() == [
        "expectation 1 (one of us) fails: nothing else is allowed in 0.0.0.0/0",
        "192.0.2.0 gets: allow by ip4/192.0.2.0_24 -DEBUG ROLE=staff",
        "254 addresses: 192.0.2.0/32, 192.0.2.2/31, 192.0.2.4/30, 192.0.2.8/29, ...",
    ]
    (violation,) = judged(
        'expect = [{ allow = ["192.0.2.0/32", "198.51.100.1"], env = { DEBUG = false }, exec = false }]'
    )
    assert violation.lines() == [
        "expectation 1 fails: allow -DEBUG without exec in 198.51.100.1/32",
        "198.51.100.1 gets: undecided",
        "1 address: 198.51.100.1/32",
    ]


def test_an_undecided_address_is_not_denied_but_nobody_who_is_allowed() -> None:
    (violation,) = judged('expect = [{ deny = ["192.0.2.255", "198.51.100.1"] }]')
    assert violation.counterexample == "198.51.100.1"
    assert judged('expect = [{ only = ["192.0.2.0/24", "2001:db8::/32"] }]') == []


def test_only_speaks_of_both_families() -> None:
    assert [str(violation.network) for violation in judged("expect = [{ only = [] }]")] == ["0.0.0.0/0", "::/0"]
    (violation,) = judged('expect = [{ only = ["0.0.0.0/0"] }]')
    assert violation.prefixes == ["2001:db8::/32"]
    assert judged('expect = [{ only = ["::/0", "0.0.0.0/0", "10.0.0.0/8"] }]') == []


def test_variables_are_set_or_unset_by_the_rule_itself() -> None:
    def holds(env: str) -> bool:
        return not judged(f'expect = [{{ allow = ["192.0.2.0/25"], env = {env} }}]')

    assert holds('{ ROLE = "staff" }')
    assert holds("{ DEBUG = false }")
    assert not holds('{ ROLE = "staff", DEBUG = "" }')
    assert not holds("{ ROLE = false }")
    assert not holds("{ OTHER = false }")


def test_execs_are_there_or_not() -> None:
    def holds(prefix: str, text: str) -> bool:
        return not judged(f'expect = [{{ allow = ["{prefix}"], exec = {text} }}]')

    assert holds("192.0.2.0/25", "false") and not holds("192.0.2.128/26", "false")
    assert holds("192.0.2.128/26", '"echo hello"') and not holds("192.0.2.128/26", '"echo"')


def test_one_rule_set_takes_many_expectations() -> None:
    rules = LoadedRules.of(RULES.items())
    held = parse(b'expect = [{ allow = ["192.0.2.0/25"] }, { deny = ["192.0.2.0/25"] }, { deny = ["192.0.2.255"] }]')
    assert [bool(list(violations_of(expectation, rules))) for expectation in held] == [False, True, False]
