"""Small rule sets that can be judged address by address, and how to do that.

Rules lie within one network of 256 addresses of each family, or are wide enough to cover it; clients are all addresses
of that network and one on either side of it.
"""

from __future__ import annotations

import functools

from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.networks import Family, parse_address_number, parse_cidr
from s6tls.audit.questions.diff import Clients
from tests.support.rules import model

Rules = dict[bytes, Rule]

BASES = {Family.IP4: parse_cidr("192.0.2.0/24").number, Family.IP6: parse_cidr("2001:db8::7:0/120").number}
FEW_RULES = (
    Rule(True),
    Rule(False),
    Rule(True, ((b"ROLE", b"staff"),)),
    Rule(True, ((b"ROLE", None),)),
    Rule(True, (), b"echo hello"),
)
# The clients are few, and asked about often.
KEY = {Family.IP4: functools.cache(model.ip4_key), Family.IP6: functools.cache(model.ip6_key)}

families = st.sampled_from(Family)


def clients(family: Family) -> range:
    """The numbers of all addresses to judge."""
    return range(BASES[family] - 1, BASES[family] + 257)


@st.composite
def rule_sets(draw: st.DrawFn, few: tuple[Rule, ...] = FEW_RULES, most: int = 12) -> Rules:
    """Rule sets with up to `most` rules for each family, all of which can match."""
    found: Rules = {}
    for family, base in BASES.items():
        for _ in range(draw(st.integers(0, most))):
            free = draw(st.integers(0, 8) | st.sampled_from([9, 16, family.bits]))
            number = base + draw(st.integers(0, 255))
            found[KEY[family](number, family.bits - free)] = draw(st.sampled_from(few))
    return found


def decide(rules: Rules, family: Family, number: int) -> tuple[bytes | None, Rule | None]:
    """The key and the rule that decide an address, found by trying all prefixes, the longest first."""
    for length in range(family.bits, -1, -1):
        key = KEY[family](number, length)
        if key in rules:
            return key, rules[key]
    return None, None


def restricted_to_clients(family: Family, ranges: list[tuple[int, int]]) -> set[int]:
    """Which of the clients lie in these ranges."""
    return {number for number in clients(family) for start, end in ranges if start <= number < end}


def clients_at(*addresses: str) -> Clients:
    """Clients that have been seen once for each time that they stand here."""
    seen = Clients()
    for address in addresses:
        family, number = parse_address_number(address)
        seen.add([(number.to_bytes(family.octets, "big"), 1)])
    return seen
