"""Which keys are probed for a client, and which addresses are addresses."""

from __future__ import annotations

import ipaddress
import os
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s6tls.accessrules import AddressError, keys
from tests.support.rules import model, trees


def from_words(words: list[int]) -> int:
    return int.from_bytes(struct.pack(">8H", *words), "big")


@given(trees.ip4_numbers)
def test_all_33_networks_of_an_ipv4_address_from_the_smallest(number: int) -> None:
    expected = [model.ip4_key(number, length) for length in range(32, -1, -1)]
    assert list(keys.ip4_keys(number.to_bytes(4, "big"))) == expected


@given(trees.ip6_numbers)
@example(0)
@example(1)
@example(2**128 - 1)
@example(0x0000_0000_0000_0000_0000_FFFF_0102_0304)  # never a dotted quad
@example(0x0001_0000_0000_0002_0000_0000_0003_0004)  # the first of equal runs
@example(0x0001_0000_0002_0000_0000_0003_0000_0000)
@example(0x2001_0DB8_0000_0000_0001_0000_0000_0001)
@example(0x0000_0001_0000_0001_0000_0001_0000_0001)  # no run at all
def test_all_129_networks_of_an_ipv6_address_from_the_smallest(number: int) -> None:
    expected = [model.ip6_key(number, length) for length in range(128, -1, -1)]
    assert list(keys.ip6_keys(number.to_bytes(16, "big"))) == expected


@given(trees.ip6_numbers)
def test_the_text_in_an_ipv6_key_is_that_address(number: int) -> None:
    first = next(keys.ip6_keys(number.to_bytes(16, "big")))
    assert int(ipaddress.IPv6Address(first[4:-4].decode())) == number


@given(trees.ip6_numbers | st.lists(st.sampled_from([0, 0, 1, 0x10, 0xFFFF]), min_size=8, max_size=8).map(from_words))
@example(0)
@example(0x1 << 112)
@example(1 << 112 | 1 << 16)
def test_the_text_of_an_ipv6_address_is_that_in_its_key(number: int) -> None:
    packed = number.to_bytes(16, "big")
    assert keys.address_text(packed) == next(keys.ip6_keys(packed))[4:-4] == model.ip6_text(number).encode()


def test_the_documented_example() -> None:
    asked = list(keys.ip6_keys(keys.parse_address("2a00:1450:4002:803::1006")))
    assert asked[0] == b"ip6/2a00:1450:4002:803::1006_128"
    assert asked[2] == b"ip6/2a00:1450:4002:803::1004_126"
    assert asked[16:18] == [b"ip6/2a00:1450:4002:803::_112", b"ip6/2a00:1450:4002:803::_111"]
    assert asked[-12:-10] == [b"ip6/2a00::_11", b"ip6/2a00::_10"]  # where the page says 2800::_10, it errs
    assert asked[-3:] == [b"ip6/::_2", b"ip6/::_1", b"ip6/::_0"]


def test_keys_are_made_as_they_are_asked_for() -> None:
    asked = keys.ip6_keys(bytes(16))
    assert next(asked) == b"ip6/::_128"
    assert next(asked) == b"ip6/::_127"


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("1.2.3.4", bytes([1, 2, 3, 4])),
        ("255.255.255.255", b"\xff" * 4),
        ("::", bytes(16)),
        ("::ffff:1.2.3.4", bytes(10) + b"\xff\xff\x01\x02\x03\x04"),  # stays an IPv6 address
        ("2001:DB8::1", bytes.fromhex("20010db8000000000000000000000001")),
    ],
)
def test_addresses(text: str, packed: bytes) -> None:
    assert keys.parse_address(text) == packed
    assert keys.parse_address(text.encode()) == packed


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.04", "1.2.3.256", "0x1.2.3.4", "1", "1.2.3.4 ", " 1.2.3.4"),
        *("1.2.3.4\n", "1.2.3.4\0", "1.2.3.4\0::", "1.2.3.4/32", "\u0661.2.3.4", "1..2.3", "-1.2.3.4", "+1.2.3.4"),
        *("::1%lo", "fe80::1%eth0", "::1 ", " ::1", "::1\0", "::1\n", "1::2::3", ":::", ":", "1:2:3:4:5:6:7"),
        *("1:2:3:4:5:6:7:8:9", "12345::", "00001::", "g::", "::01.2.3.4", "::1.2.3", "[::1]", "::1/128", "é::"),
    ],
)
def test_what_only_looks_like_an_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        keys.parse_address(text)
    with pytest.raises(AddressError):
        keys.parse_address(text.encode())


def test_bytes_that_are_not_text_are_no_address() -> None:
    with pytest.raises(AddressError):
        keys.parse_address(b"\xff.2.3.4")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        (b"foo.bar.com", [b"foo.bar.com", b"bar.com", b"com"]),
        (b"Foo.Bar.COM.", [b"foo.bar.com", b"bar.com", b"com"]),
        (b"localhost", [b"localhost"]),
        (b"", []),
        (b".", []),
        (b"..", []),
        (b".com", [b"com"]),
        (b"a..b", [b"a..b", b"b"]),
        (b"../../etc.com", [b"com"]),
        (b"x/..", []),
        (b"a\0b.org", [b"org"]),
        (b"@", [b"@"]),
        (b"a" * 256 + b".org", [b"org"]),
        (b"a." * 20_000 + b"org", [b"a." * n + b"org" for n in range(126, -1, -1)]),
    ],
)
def test_names(name: bytes, asked: list[bytes]) -> None:
    assert list(keys.name_keys(name)) == [b"reversedns/" + n for n in asked] + [b"reversedns/@"]


def test_users() -> None:
    everything = [b"uid/self", b"uid/7", b"gid/self", b"gid/8", b"uid/default"]
    assert list(keys.uidgid_keys(7, 8, 7, 8)) == everything
    assert list(keys.uidgid_keys(7, 8, 0, 0)) == [b"uid/7", b"gid/8", b"uid/default"]
    assert list(keys.uidgid_keys(os.geteuid(), os.getegid()))[::2] == [b"uid/self", b"gid/self", b"uid/default"]
