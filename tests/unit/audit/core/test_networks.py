"""Networks, their names and ranges, beside the standard library."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.networks import Family, Network, cidrs, joined, parse_cidr, prefixes


@pytest.mark.parametrize(
    ("family", "name", "network"),
    [
        (Family.IP4, b"0.0.0.0_0", "0.0.0.0/0"),
        (Family.IP4, b"10.1.2.3_32", "10.1.2.3/32"),
        (Family.IP6, b"::_0", "::/0"),
        (Family.IP6, b"2001:db8::_32", "2001:db8::/32"),
        (Family.IP6, b"::ffff:102:304_128", "::ffff:102:304/128"),
        (Family.IP6, b"1:0:0:2::_64", "1:0:0:2::/64"),
    ],
)
def test_names_that_can_match(family: Family, name: bytes, network: str) -> None:
    number, length = family.parse_name(name)
    assert family.cidr(number, length) == network
    assert family.key(number, length) == family.value.encode() + b"/" + name
    assert parse_cidr(network) == Network(family, number, length)


@pytest.mark.parametrize(
    ("family", "name", "problem"),
    [
        (Family.IP4, b"10.0.0.1_8", "write it as 10.0.0.0_8"),
        (Family.IP4, b"10.0.0.0_33", "prefix length from 0 to 32"),
        (Family.IP4, b"10.0.0.0_08", "prefix length"),
        (Family.IP4, b"10.0.0.0_", "prefix length"),
        (Family.IP4, b"10.0.0.0", "prefix length"),
        (Family.IP4, b"010.0.0.0_8", "address"),
        (Family.IP4, b"10.0_8", "address"),
        (Family.IP4, b"localhost_32", "address"),
        (Family.IP4, b"::_0", "address"),
        (Family.IP4, b"\xff_0", "address"),
        (Family.IP6, b"2001:DB8::_32", "write it as 2001:db8::_32"),
        (Family.IP6, b"2001:0db8::_32", "write it as 2001:db8::_32"),
        (Family.IP6, b"::ffff:1.2.3.4_128", "write it as ::ffff:102:304_128"),
        (Family.IP6, b"1::2:0:0:0_64", "write it as 1::_64"),
        (Family.IP6, b"2001:db8::1_64", "write it as 2001:db8::_64"),
        (Family.IP6, b"::_129", "prefix length from 0 to 128"),
        (Family.IP6, b"1.2.3.4_32", "address"),
    ],
)
def test_names_that_never_match(family: Family, name: bytes, problem: str) -> None:
    with pytest.raises(AddressError, match=problem):
        family.parse_name(name)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/-1", "10/8", "::/129", "1/8", ""])
def test_cidrs_that_are_none(text: str) -> None:
    with pytest.raises(AddressError):
        parse_cidr(text)


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_ranges_become_the_fewest_networks(a: int, b: int) -> None:
    start, end = sorted((a, b))
    networks = [ipaddress.IPv4Network((number, 32 - free)) for number, free in prefixes(start, end)]
    if start == end:
        assert networks == []
    else:
        first, last = ipaddress.IPv4Address(start), ipaddress.IPv4Address(end - 1)
        assert networks == list(ipaddress.summarize_address_range(first, last))


def test_the_whole_of_ipv6_is_one_network() -> None:
    assert list(prefixes(0, 2**128)) == [(0, 128)]


def test_ranges_that_touch_are_joined() -> None:
    assert list(joined([(0, 1), (1, 4), (5, 6)])) == [(0, 4), (5, 6)]
    assert list(joined([])) == []
    assert cidrs(Family.IP4, [(0, 1), (1, 4), (5, 6)]) == ["0.0.0.0/30", "0.0.0.5/32"]
