"""What lint says of rules in memory, beside brute force: what changes when a rule is taken away."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.accessrules.keys import name_keys, uidgid_keys
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.lint.findings import Finding, Severity
from s6tls.audit.lint.run import of_loaded
from s6tls.stages.applyuidgid import ApplyUidGid
from s6tls.tls.credentials import SessionOptions
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi.image import Image, StageExit
from tests.support.rules import spaces

ALLOW, DENY = Rule(True), Rule(False)
STAFF = Rule(True, ((b"ROLE", b"staff"),))
EVERYBODY = {b"ip4/0.0.0.0_0": DENY, b"ip6/::_0": DENY}


def lint(rules: spaces.Rules, is_tree: bool = False) -> list[Finding]:
    return list(of_loaded(LoadedRules.of(rules.items(), is_tree=is_tree)))


def codes(rules: spaces.Rules) -> list[tuple[str, bytes | None]]:
    return [(finding.code, finding.rule) for finding in lint(rules)]


def found(rules: spaces.Rules, code: str) -> set[bytes]:
    return {finding.rule or b"" for finding in lint(rules) if finding.code == code}


# What rules do to each other


@settings(max_examples=40)
@given(spaces.rule_sets())
def test_shadowed_rules_decide_nothing_and_redundant_ones_change_nothing(rules: spaces.Rules) -> None:
    decide: set[bytes] = set()
    matter: set[bytes] = set()
    for family in Family:
        for number in (0, spaces.BASES[family] + 512, *spaces.clients(family)):
            key, rule = spaces.decide(rules, family, number)
            if key is not None and key not in matter:
                decide.add(key)
                others = {other: rules[other] for other in rules if other != key}
                if spaces.decide(others, family, number)[1] != rule:
                    matter.add(key)
    assert found(rules, "shadowed") == rules.keys() - decide
    assert found(rules, "redundant") == decide - matter


HOSTS = [b".".join(labels) for depth in (1, 2, 3, 4) for labels in product((b"a", b"b", b"z"), repeat=depth)]


def by_name(rules: spaces.Rules, host: bytes) -> Rule | None:
    return next((rules[key] for key in name_keys(host) if key in rules), None)


_domains = st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=3).map(b".".join) | st.just(b"@")
_few = st.sampled_from(spaces.FEW_RULES[:3])


@given(st.dictionaries(_domains.map(lambda name: b"reversedns/" + name), _few, max_size=8))
def test_rules_by_name_that_change_nothing(rules: spaces.Rules) -> None:
    idle = set()
    for key in rules:
        others = {other: rules[other] for other in rules if other != key}
        if all(by_name(rules, host) == by_name(others, host) for host in HOSTS):
            idle.add(key)
    assert found(rules, "redundant") == idle


_ids = st.sampled_from([b"self", b"0", b"1", b"2"])
_id_keys = st.tuples(st.sampled_from([b"uid", b"gid"]), _ids).map(b"/".join) | st.just(b"uid/default")


@given(st.dictionaries(_id_keys, _few, max_size=7))
def test_rules_for_users_and_groups_that_change_nothing(rules: spaces.Rules) -> None:
    for key in found(rules, "redundant"):
        others = {other: rules[other] for other in rules if other != key}
        for uid, gid, euid, egid in product(range(4), repeat=4):
            asked = list(uidgid_keys(uid, gid, euid, egid))
            first, other = (next((some[k] for k in asked if k in some), None) for some in (rules, others))
            assert first == other


def test_users_that_the_default_repeats() -> None:
    assert found({b"uid/0": ALLOW, b"uid/default": ALLOW}, "redundant") == {b"uid/0"}
    assert found({b"uid/0": ALLOW, b"gid/0": DENY, b"uid/default": ALLOW}, "redundant") == set()
    assert found({b"gid/0": ALLOW, b"uid/1": ALLOW, b"uid/default": ALLOW}, "redundant") == {b"gid/0"}
    assert found({b"uid/self": ALLOW, b"uid/default": ALLOW}, "redundant") == set()


def test_a_rule_that_can_never_match_is_not_called_redundant_too() -> None:
    rules = {**EVERYBODY, b"ip4/10.0.0.1_8": DENY, b"reversedns/A": DENY, b"uid/01": DENY, b"uid/default": DENY}
    rules[b"ip6/::ffff:a00:0_104"] = DENY
    assert codes(rules) == [
        ("host-bits", b"ip4/10.0.0.1_8"),
        ("not-canonical", b"reversedns/A"),
        ("not-an-id", b"uid/01"),
        ("mapped-network", b"ip6/::ffff:a00:0_104"),
        ("lets-nobody-in", None),
    ]


@pytest.mark.parametrize(
    "key", [b"ip6/::ffff:0:0_95", b"ip6/::fffe:0:0_96", b"ip6/::ffff:0_112", b"ip6/::ffff:0:0:0_80"]
)
def test_what_lies_beside_the_mapped_addresses_or_around_them_can_match(key: bytes) -> None:
    assert "mapped-network" not in [code for code, _ in codes({key: DENY})]


def test_of_rules_that_cover_another_those_that_repeat_it_may_go_instead() -> None:
    halves = {b"ip4/0.0.0.0_1": DENY, b"ip4/128.0.0.0_1": ALLOW}
    (shadowed,) = (finding for finding in lint({**EVERYBODY, **halves}) if finding.code == "shadowed")
    assert shadowed.rule == b"ip4/0.0.0.0_0" and "or those of them that only repeat it" in shadowed.remedy


def test_rules_by_name_that_nobody_reaches() -> None:
    names: spaces.Rules = {b"reversedns/a": ALLOW, b"reversedns/b.a": ALLOW, b"reversedns/@": DENY}
    assert codes({**EVERYBODY, **names}) == [("unreachable", key) for key in names]
    assert codes({b"ip6/::_0": DENY, **names}) == [
        ("redundant", b"reversedns/b.a"),
        ("family-undecided", None),
    ]


# Whom no rule decides


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ((), []),
        ((b"ip4/0.0.0.0_0", b"ip6/::_0"), []),
        ((b"ip4/0.0.0.0_1", b"ip4/128.0.0.0_1", b"ip6/::_0"), []),
        ((b"ip4/0.0.0.0_0",), [("family-undecided", "every IPv4 address is decided, but all IPv6 addresses are")]),
        ((b"ip6/::_0",), [("family-undecided", "every IPv6 address is decided, but all IPv4 addresses are")]),
        (
            (b"ip4/0.0.0.0_1", b"ip6/::_0"),
            [("family-undecided", "but 2,147,483,648 IPv4 addresses are undecided")],
        ),
        (
            (b"ip4/0.0.0.0_1",),
            [("no-catch-all", "2,147,483,648 IPv4 addresses are"), ("no-catch-all", "all IPv6 addresses are")],
        ),
        ((b"ip4/0.0.0.0_1", b"reversedns/a"), [("no-catch-all", "clients whose names")]),
        ((b"ip4/0.0.0.0_1", b"reversedns/@"), []),
        ((b"uid/0",), [("no-catch-all", "local clients")]),
        ((b"gid/0",), [("no-catch-all", "local clients")]),
        ((b"uid/default",), []),
    ],
)
def test_catch_alls(keys: Iterable[bytes], expected: list[tuple[str, str]]) -> None:
    findings = lint(dict.fromkeys(keys, ALLOW))
    assert [finding.code for finding in findings] == [code for code, _ in expected]
    assert all(part in finding.message for finding, (_, part) in zip(findings, expected, strict=True))


def test_a_single_address_without_a_rule() -> None:
    rules = {**{Family.IP4.key(1 << free, 32 - free): ALLOW for free in range(32)}, b"ip6/::_0": ALLOW}
    (finding,) = lint(rules)
    assert finding.message == "every IPv6 address is decided, but 1 IPv4 address is undecided"


# Names


@pytest.mark.parametrize(
    ("key", "code", "remedy"),
    [
        (b"ip4/10.0.0.1_8", "host-bits", "write it as 10.0.0.0_8"),
        (b"ip6/2001:db8::1_32", "host-bits", "write it as 2001:db8::_32"),
        (b"ip6/2001:DB8::_32", "not-canonical", "write it as 2001:db8::_32"),
        (b"ip6/::ffff:1.2.3.4_128", "not-canonical", "write it as ::ffff:102:304_128"),
        (b"ip4/10.0.0.0_33", "not-a-network", ""),
        (b"ip4/10.0.0.0", "not-a-network", ""),
        (b"ip4/localhost_32", "not-a-network", ""),
        (b"ip6/\xff_0", "not-a-network", ""),
        (b"reversedns/Example.org", "not-canonical", "write it as example.org"),
        (b"reversedns/example.org.", "not-canonical", "write it as example.org"),
        (b"reversedns/.example.org", "not-canonical", "write it as example.org"),
        (b"reversedns/*.example.org", "not-canonical", "write it as example.org"),
        (b"reversedns/*", "not-a-host-name", ""),
        (b"reversedns/", "not-a-host-name", ""),
        (b"reversedns/a..b", "not-a-host-name", ""),
        (b"reversedns/exa mple", "not-a-host-name", ""),
        (b"reversedns/192.0.2.1", "not-a-host-name", ""),
        (b"reversedns/" + b"a" * 64, "not-a-host-name", ""),
        (b"reversedns/" + b".".join([b"a" * 62] * 5), "not-a-host-name", ""),
        (b"reversedns/a\n", "not-a-host-name", ""),
        (b"uid/01", "not-an-id", "write it as 1"),
        (b"uid/4294967295", "not-an-id", ""),
        (b"gid/4294967295", "not-an-id", ""),
        (b"uid/root", "not-an-id", ""),
        (b"uid/4294967296", "not-an-id", ""),
        (b"gid/default", "not-an-id", ""),
        (b"gid/", "not-an-id", ""),
        (b"nothing", "not-a-key", ""),
        (b"", "not-a-key", ""),
    ],
)
def test_names_that_can_never_match(key: bytes, code: str, remedy: str) -> None:
    (finding,) = lint({key: ALLOW})
    assert (finding.code, finding.severity, finding.rule) == (code, Severity.ERROR, key)
    assert finding.message.startswith("can never match: ")
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        (b"ip6/::ffff:102:304_128", "name it ip4/1.2.3.4_32"),
        (b"ip6/::ffff:0:0_96", "name it ip4/0.0.0.0_0"),
    ],
)
def test_networks_of_mapped_addresses_can_never_match(key: bytes, remedy: str) -> None:
    (finding,) = lint({**EVERYBODY, key: ALLOW})
    assert (finding.code, finding.severity, finding.rule) == ("mapped-network", Severity.ERROR, key)
    assert (finding.message, finding.remedy) == (
        "can never match: whoever has such an address is an IPv4 client",
        remedy,
    )


@pytest.mark.parametrize("name", [b"a", b"a-b.c_d", b"_x.example.org", b"1.example", b"@", b"xn--bcher-kva.example"])
def test_names_of_hosts(name: bytes) -> None:
    assert not [finding for finding in lint({b"reversedns/" + name: ALLOW}) if finding.severity > Severity.NOTE]


def test_families_that_no_server_looks_into() -> None:
    strange = {b"IP4/10.0.0.0_8": ALLOW, b"IP4/11.0.0.0_8": ALLOW, b"custom/x": ALLOW}
    first, second = lint({**EVERYBODY, **strange})
    assert (first.code, first.severity, first.rule) == ("unknown-family", Severity.WARNING, None)
    assert first.message.endswith("IP4, which has 2 rules") and first.remedy == "did you mean ip4?"
    assert second.message.endswith("custom, which has 1 rule") and second.remedy.startswith("the families are ip4, ")


# Effects


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({b"KEYFILE": b"/k", b"CERTFILE": b"/c"}, []),
        ({b"KEYFILE": b"/k"}, ["sets KEYFILE but not CERTFILE"]),
        ({b"CERTFILE": b"/c"}, ["sets CERTFILE but not KEYFILE"]),
        ({b"CERTFILE": b"/c", b"KEYFILE": None}, ["sets CERTFILE but not KEYFILE"]),
        ({b"CERTFILE": b"/c", b"KEYFILE": b""}, ["sets CERTFILE but not KEYFILE"]),
        ({b"KEYFILE:a": b"/k", b"CERTFILE:b": b"/c"}, ["sets CERTFILE:b but not", "sets KEYFILE:a but not"]),
        ({b"KEYFILE:a": b"/k", b"CERTFILE:a": b"/c", b"KEYFILES": b"x", b"KEYFILE:": b""}, []),
        ({b"KEYFILE": None, b"CERTFILE": None}, []),
        ({b"KEYFILE2": b"/k", b"CERTFILE2:a": b"/c"}, ["sets CERTFILE2:a but not", "sets KEYFILE2 but not CERTFILE2"]),
        ({b"KEYFILE2": b"/k", b"CERTFILE2": b"/c"}, []),
    ],
)
def test_halves_of_keypairs(env: dict[bytes, bytes | None], expected: list[str]) -> None:
    findings = lint({**EVERYBODY, b"ip4/10.0.0.0_8": Rule(True, tuple(env.items()))})
    assert [finding.code for finding in findings] == ["half-keypair"] * len(expected)
    assert all(finding.message.startswith(text) for finding, text in zip(findings, expected, strict=True))


def test_each_rule_with_the_same_effect_is_told() -> None:
    half = Rule(True, ((b"KEYFILE", b"/k"),))
    rules = {**EVERYBODY, b"ip4/10.0.0.0_8": half, b"ip4/11.0.0.0_8": half}
    assert codes(rules) == [("half-keypair", b"ip4/10.0.0.0_8"), ("half-keypair", b"ip4/11.0.0.0_8")]


def test_too_large_an_environment_and_a_text_that_may_be_cut() -> None:
    large = {**EVERYBODY, b"ip4/10.0.0.0_8": Rule(True, ((b"A", b"v" * 4095),))}
    assert [(f.code, f.severity) for f in lint(large)] == [("env-too-large", Severity.ERROR)]
    cut = {**EVERYBODY, b"ip4/10.0.0.0_8": Rule(True, (), b"x" * 4096)}
    assert [(f.code, f.severity) for f in lint(cut)] == [("exec-cut", Severity.WARNING)]
    assert lint(cut, is_tree=True) == []


@pytest.mark.parametrize("name", ["UID", "GID", "GIDLIST", "TLS_UID", "TLS_GID"])
@pytest.mark.parametrize(
    "value", [b"", b"0", b"007", b"4294967294", b"4294967295", b"root", b"-1", b"1,2", b",7,", b"1 "]
)
def test_ids_in_the_environment_are_read_as_servers_read_them(name: str, value: bytes) -> None:
    env = {b"UID": b"1", b"GID": b"1", b"GIDLIST": b"1", b"KEYFILE": b"/k", b"CERTFILE": b"/c", name.encode(): value}
    try:
        ApplyUidGid(from_env=True).apply(Image(dict(env), [b"prog"]))
        TlsParameters.from_environment(env, SessionOptions())
    except StageExit as refused:
        expected = ["root-engine" if "--allow-root-engine" in str(refused) else "bad-id"]
    else:
        expected = []
    findings = lint({**EVERYBODY, b"ip4/10.0.0.0_8": Rule(True, ((name.encode(), value),))})
    assert [finding.code for finding in findings] == expected
    severity = Severity.ERROR if name.startswith("TLS_") and expected == ["bad-id"] else Severity.WARNING
    what = "0: " if expected == ["root-engine"] else "no id ("
    assert all(finding.severity is severity and f"sets {name} to {what}" in finding.message for finding in findings)
    unset = {**EVERYBODY, b"ip4/10.0.0.0_8": Rule(True, ((name.encode(), None),))}
    assert lint(unset) == []
