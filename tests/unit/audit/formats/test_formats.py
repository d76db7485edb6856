"""Formats of rules: what is true of every one of them, and lists."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.formats import addresses, cidrlist, haproxy, hostsaccess, nft, nginx, tcprules, text
from s6tls.audit.formats.entries import BadText, Unsayable
from s6tls.audit.formats.firewall import ipset
from s6tls.audit.formats.lists import jsonlists, ranges
from s6tls.audit.formats.registry import READERS
from s6tls.audit.formats.web import apache, kubernetes
from tests.support.rules import spaces
from tests.support.rules.formats import PLAIN, agree, refused, snippets, verdict


@given(st.binary(max_size=60) | snippets.map(str.encode))
@settings(max_examples=300)
def test_any_text_is_read_or_refused(data: bytes) -> None:
    for reader in READERS.values():
        try:
            reader.read(data, **({"columns": ["1"]} if "column" in reader.options else {}))
        except BadText as bad:
            assert bad.faults and all(fault.line > 0 and fault.message for fault in bad.faults)


@given(spaces.rule_sets(PLAIN, most=6))
@settings(max_examples=40)
def test_verdicts_come_back_from_every_format(rules: spaces.Rules) -> None:
    contents = LoadedRules.of(rules.items())
    agree(nginx.parse(nginx.write(contents).encode()), rules)
    agree(hostsaccess.parse(hostsaccess.write(contents, daemon="ftpd").encode(), daemon="ftpd"), rules)
    for lists in (cidrlist, haproxy):
        agree(lists.parse(lists.write(contents).encode()), rules)
        others = dict(lists.parse(lists.write(contents, allow=False).encode(), allow=False).rules)
        for family in Family:
            for number in spaces.clients(family):
                assert (spaces.decide(others, family, number)[1] is None) is verdict(rules, family, number)


def allowed(rules: Iterable[tuple[bytes, Rule]]) -> addresses.Addresses:
    return addresses.allowed(LoadedRules.of(rules))


@given(spaces.rule_sets(PLAIN, most=6))
@settings(max_examples=40)
def test_all_addresses_come_back_from_lists(rules: spaces.Rules) -> None:
    contents = LoadedRules.of(rules.items())
    wanted = allowed(rules.items())
    assert allowed(apache.parse(apache.write(contents).encode()).rules) == wanted
    policy = kubernetes.write(contents)
    assert allowed(jsonlists.parse(policy.encode()).rules if "ipBlock" in policy else []) == wanted
    for lists in (cidrlist, ranges, jsonlists, nft, ipset):
        assert allowed(lists.parse(lists.write(contents).encode()).rules) == wanted
        assert allowed(lists.parse(lists.write(contents, allow=False).encode()).rules) == ~wanted
        for family in Family:
            part = lists.parse(lists.write(contents, families=[family]).encode()).rules
            assert part == [(key, rule) for key, rule in part if key.startswith(family.prefix)]
            assert allowed(part) == addresses.of(at for at in wanted.networks() if at.family is family)


@pytest.mark.parametrize(
    "rule",
    [
        (b"reversedns/example.org", Rule(True)),
        (b"ip4/10.0.0.1_8", Rule(True)),
        (b"ip4/0.0.0.0_0", Rule(True, (), b"x")),
    ],
)
@pytest.mark.parametrize(
    "module", [tcprules, hostsaccess, cidrlist, haproxy, nginx, nft, ipset, jsonlists, ranges, apache, kubernetes]
)
def test_what_no_other_format_can_say(rule: tuple[bytes, Rule], module: object) -> None:
    with pytest.raises(Unsayable) as raised:
        module.write(LoadedRules.of([rule]))  # type: ignore[attr-defined]
    assert [key for key, _ in raised.value.reasons] == [rule[0]]


# Lists


def test_lists() -> None:
    parsed = cidrlist.parse(b"# mine\n192.0.2.0/25 ; one # two\n\n2001:db8::1\n192.0.2.7\n", allow=False)
    assert parsed.rules == [(b"ip4/192.0.2.0_25", Rule(False)), (b"ip6/2001:db8::1_128", Rule(False))]
    assert parsed.entries[0].provenance.note == "one # two"
    assert [(remark.line, remark.message) for remark in parsed.remarks] == [
        (5, "192.0.2.7/32 is never reached: line 2 covers it")
    ]
    assert [line for line, _ in refused(cidrlist.parse, b"192.0.2.1/24\nexample.org\n10/8\n")] == [1, 2, 3]
    assert [line for line, _ in refused(haproxy.parse, b"# x\n10.0.0.0/8 # y\n")] == [2]


@pytest.mark.parametrize("note", ["owner=a owner=b", "expires=soon", "ticket=", "# x", 'owner="'])
def test_comments_of_lists_are_text_only(note: str) -> None:
    parsed = cidrlist.parse(f"10.0.0.0/8 # {note}\n".encode())
    again = text.parse(text.write(parsed.entries).encode())
    about = again.entries[0].provenance
    assert again.rules == parsed.rules and note in about.note
    assert (about.owner, about.ticket, about.expires) == ("", "", None)
