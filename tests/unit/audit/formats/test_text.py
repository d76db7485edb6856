"""Our own text form, and rules that expire."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.formats import expiry, text
from s6tls.audit.formats.entries import BadText, Entry, Provenance
from tests.support.rules import trees
from tests.support.rules.formats import refused, snippets


@given(trees.rule_sets)
def test_text_says_any_rule_set(rules: trees.Rules) -> None:
    written = text.write(Entry(key, rule) for key, rule in rules.items())
    assert text.parse(written.encode()).rules == list(rules.items())


@given(st.dictionaries(st.binary(max_size=12), trees.rules, max_size=4))
def test_text_says_any_key_that_a_cdb_may_have(rules: trees.Rules) -> None:
    written = text.write(Entry(key, rule) for key, rule in rules.items())
    assert text.parse(written.encode()).rules == list(rules.items())


@given(snippets)
@settings(max_examples=500)
def test_what_is_written_stays_as_it_is(given_: str) -> None:
    try:
        parsed = text.parse(given_.encode())
    except BadText:
        return
    written = text.write(parsed.entries, parsed.trailing)
    again = text.parse(written.encode())
    assert [(e.key, e.rule, e.provenance) for e in again.entries] == [
        (e.key, e.rule, e.provenance) for e in parsed.entries
    ]
    assert text.write(again.entries, again.trailing) == written


def test_text_keeps_provenance() -> None:
    line = (
        'allow ip4 10.0.0.0/8 ROLE=staff -DEBUG exec="echo\\n"  # owner="A B" ticket=N-1 expires=2027-01-31 until then'
    )
    parsed = text.parse(f"# all offices\n\n{line}\n# the end\n".encode())
    about = Provenance("A B", "N-1", date(2027, 1, 31), "until then", ("all offices",))
    assert parsed.entries == [
        Entry(b"ip4/10.0.0.0_8", Rule(True, ((b"ROLE", b"staff"), (b"DEBUG", None)), b"echo\n"), about)
    ]
    assert text.write(parsed.entries, parsed.trailing) == f"# all offices\n{line}\n# the end\n"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("permit ip4 10.0.0.0/8", "it does not start with"),
        ("allow ip4 10.0.0.1/8", "write it as 10.0.0.0/8"),
        ("allow ip4 10.0.0.1", "write it as 10.0.0.1/32"),
        ("allow ip6 2001:DB8::/32", "write it as 2001:db8::/32"),
        ("allow ip6 10.0.0.0/8", "not of family ip6"),
        ("deny ip4 10.0.0.0/8 A=b", "a deny has no environment"),
        ("allow uid 7 A=b -A", "stands twice"),
        ("allow uid 7 A=b#c", "not NAME=value"),
        ('allow uid 7 A="b', "not NAME=value"),
        ('allow uid 7 "A=B"=c', "one with ="),
        ('allow uid 7 A="\\x00"', "NUL"),
        ("allow uid 7 # expires=soon", "not a date"),
        ("allow uid 7 # expires=20270131", "not a date"),
        ("allow uid 7 # owner=a owner=b", "two of owner"),
        ("allow uid 7 # \x1b[2J", "control characters"),
        ("allow uid 7 exec=a exec=b", "two execs"),
        (f"allow uid 7 exec={'x' * 4097}", "exec takes 4097 bytes"),
        (f"allow uid 7 A={'x' * 4094}", "environment takes 4097 bytes"),
        ("deny uid 6", "has a rule already, in line 1"),
        ("deny uid 01", "uid 01 can never match: lookups ask for it in other words: write it as 1"),
        ("deny gid 4294967295", "can never match: it is neither a number from 0 to 4294967294 nor self"),
        ("deny reversedns Example.org", "can never match: lookups ask for it in other words: write it as example.org"),
        ("deny reversedns 192.0.2.1", "can never match: no host has such a name"),
    ],
)
def test_text_refuses(line: str, why: str) -> None:
    ((number, message),) = refused(text.parse, f"deny uid 6\n{line}\n".encode())
    assert number == 2 and why in message


def test_all_faults_are_told() -> None:
    assert [line for line, _ in refused(text.parse, b"x\ndeny uid 1\n\xff\ny\n")] == [1, 3, 4]


def test_expired_rules_and_what_decides_in_their_place() -> None:
    parsed = text.parse(
        b"deny ip4 10.1.0.0/16 # expires=2026-01-31\n"
        b"allow ip4 10.0.0.0/8 # expires=2026-02-01\n"
        b"allow ip6 2001:db8::/32 # expires=2026-01-31\n"
        b"allow reversedns www.example.org # expires=2026-01-31\n"
        b"deny reversedns example.org\n"
    )
    kept, expired = expiry.split(parsed.entries, date(2026, 2, 1))
    assert [entry.line for entry in kept] == [2, 5]
    assert [(entry.line, by and by.line) for entry, by in expired] == [(1, 2), (3, None), (4, 5)]
