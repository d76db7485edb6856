"""From what is known of a client to the keys to probe, most specific first.

Each function yields keys lazily: a rule that matches early saves the making of the rest.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IP4_LENGTHS = tuple(range(32, -1, -1))
IP6_LENGTHS = tuple(range(128, -1, -1))


def parse_address(text: str | bytes) -> bytes:
    """Return the 4 or 16 bytes of the address that `text` is.  Raises AddressError.

    Only the plain forms count: four decimal numbers without leading zeros, or
    IPv6 text without a scope.
    """
    try:
        plain = text if isinstance(text, str) else text.decode("ascii")
        return socket.inet_pton(socket.AF_INET6 if ":" in plain else socket.AF_INET, plain)
    except (OSError, ValueError):
        raise AddressError(f"not an address: {text!r}") from None


def ip4_keys(address: bytes, lengths: Sequence[int] = IP4_LENGTHS) -> Iterator[bytes]:
    """Yield the keys of the networks of these prefix lengths (in descending order) that hold a 4-byte address."""
    number = int.from_bytes(address, "big")
    for length in lengths:
        masked = number >> (32 - length) << (32 - length)
        yield b"ip4/%d.%d.%d.%d_%d" % (*masked.to_bytes(4, "big"), length)


def ip6_text(address: bytes) -> bytes:
    """Return the canonical text of a 16-byte address.

    Lower case, no leading zeros, the longest run of two or more zero groups (the
    first of equals) as ``::``, and never a dotted quad.
    """
    groups = [int.from_bytes(address[i : i + 2], "big") for i in range(0, 16, 2)]
    start = length = run = 0
    for i, group in enumerate(groups):
        run = 0 if group else run + 1
        if run > length:
            start, length = i + 1 - run, run
    if length < 2:
        return b":".join([b"%x" % group for group in groups])
    head = b":".join([b"%x" % group for group in groups[:start]])
    tail = b":".join([b"%x" % group for group in groups[start + length :]])
    return head + b"::" + tail


def ip6_keys(address: bytes, lengths: Sequence[int] = IP6_LENGTHS) -> Iterator[bytes]:
    """Yield the keys of the networks of these prefix lengths (in descending order) that hold a 16-byte address."""
    number = int.from_bytes(address, "big")
    for length in lengths:
        masked = number >> (128 - length) << (128 - length)
        yield b"ip6/%b_%d" % (ip6_text(masked.to_bytes(16, "big")), length)


def name_keys(name: bytes) -> Iterator[bytes]:
    """Yield the keys for a host name: the name, then what follows each dot, then ``reversedns/@``.

    Upper case counts as lower case, and a final dot is dropped.  A name comes from the network: what could not
    be the name of a rule (it is empty, starts with a dot, or has a slash or a NUL) is left out.
    """
    rest = name.lower().removesuffix(b".")
    more = b"."
    while more:
        if rest and rest[0] != 0x2E and b"/" not in rest and b"\0" not in rest:
            yield b"reversedns/" + rest
        _, more, rest = rest.partition(b".")
    yield b"reversedns/@"


def uidgid_keys(uid: int, gid: int, euid: int | None = None, egid: int | None = None) -> Iterator[bytes]:
    """Yield the keys for a local client.  `euid` and `egid` say who ``self`` is, by default this process."""
    if uid == (os.geteuid() if euid is None else euid):
        yield b"uid/self"
    yield b"uid/%d" % uid
    if gid == (os.getegid() if egid is None else egid):
        yield b"gid/self"
    yield b"gid/%d" % gid
    yield b"uid/default"
