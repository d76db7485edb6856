"""Matching by the book: the longest prefix wins, worked out on integers."""

from __future__ import annotations

from s6tls.accessrules import Rule

Networks = dict[tuple[int, int], Rule]
"""Rules by network: the number of its first address, and the length of its prefix."""


def longest_match(networks: Networks, number: int, bits: int) -> tuple[int, int] | None:
    """Return the longest of `networks` that holds the address `number` of so many bits."""
    holding = [(net, length) for net, length in networks if (number ^ net) >> (bits - length) == 0]
    return max(holding, key=lambda network: network[1], default=None)


def ip4_text(number: int) -> str:
    return ".".join(str(number >> shift & 0xFF) for shift in (24, 16, 8, 0))


def ip6_text(number: int) -> str:
    """Return the canonical text, found by trying every run of zeros from the longest to the shortest."""
    words = [f"{number >> shift & 0xFFFF:x}" for shift in range(112, -16, -16)]
    for length in range(8, 1, -1):
        for start in range(9 - length):
            if words[start : start + length] == ["0"] * length:
                return ":".join(words[:start]) + "::" + ":".join(words[start + length :])
    return ":".join(words)


def ip4_key(number: int, length: int) -> bytes:
    return f"ip4/{ip4_text(number >> (32 - length) << (32 - length))}_{length}".encode()


def ip6_key(number: int, length: int) -> bytes:
    return f"ip6/{ip6_text(number >> (128 - length) << (128 - length))}_{length}".encode()
