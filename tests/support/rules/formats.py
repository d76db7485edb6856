"""How the tests of formats judge what was read and what was refused."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.networks import Family
from s6tls.audit.formats.entries import BadText, Parsed
from tests.support.rules import spaces

PLAIN = (Rule(True), Rule(False))


def refused(parse: object, data: bytes) -> list[tuple[int, str]]:
    assert callable(parse)
    with pytest.raises(BadText) as raised:
        parse(data)
    return [(fault.line, fault.message) for fault in raised.value.faults]


def verdict(rules: spaces.Rules, family: Family, number: int) -> bool:
    _, rule = spaces.decide(rules, family, number)
    return rule is not None and rule.allow


def agree(parsed: Parsed, rules: spaces.Rules) -> None:
    again = dict(parsed.rules)
    for family in Family:
        for number in spaces.clients(family):
            assert verdict(again, family, number) == verdict(rules, family, number)


_WORDS = [
    "allow",
    "deny",
    " ip4 ",
    "10.0.0.0/8",
    " A=b",
    ' -"x y"',
    ' exec="a\\n"',
    "  # ",
    "owner=ops",
    " expires=2027-01-31",
]
_WORDS += ["ticket=", '"a b"', " note", "\n", "# c\n", " uid 7", " key ", '"\\xff"', "#", "=", "-", "\u00e4", "\t"]
snippets = st.lists(st.sampled_from(_WORDS), max_size=14).map("".join)
