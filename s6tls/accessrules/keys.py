"""From what is known of a client to the keys to probe, most specific first.

Keys are made lazily: a rule that matches early saves the making of the rest.

A client's address lies in 33 or 129 networks, and the time of a lookup is the time
to write down their keys; asking a cdb for one takes a tenth of a microsecond.  Hence:

Networks are written a *batch* of eight at a time, one octet after the other, from the
last to the first.  Within a batch only that octet varies, for what stands before it is
the address's own and what stands after it is zeros.  So a key costs a masking and two
concatenations, and whatever can be written down beforehand stands in tables.

For IPv6, an octet is half of a 16-bit *group*, and the text around the group depends on
where ``::`` falls.  The rule is: the longest run of two or more zero groups, the first of equals.
If the masked group is not zero, the candidates are the runs in the groups before it,
which are the same for all sixteen networks that end within the group, and the zeros
after it; so ``_ip6_shapes`` decides once per group.  If the masked group is zero, then the
network's text is that of the network that ends just before the group, its *parent*.
"""

from __future__ import annotations

import os
import socket
import struct
from itertools import chain
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import Iterator

_OCTET = [b"%d" % octet for octet in range(256)]
_HEX = [b"%x" % octet for octet in range(256)]
_HEX_PAIR = [b"%02x" % octet for octet in range(256)]

# For each octet, what its eight networks differ in: the mask, and what follows the masked number.
_IP4_STEPS = [
    [(0xFF << (8 - n) & 0xFF, b".0" * (3 - i) + b"_%d" % (8 * i + n)) for n in range(8, 0, -1)] for i in range(4)
]


def _ip6_steps(i: int, zeros: bytes) -> tuple[list[tuple[int, bytes, bytes]], list[tuple[int, bytes, bytes]]]:
    """Return the same for the two halves of 16-bit group `i`, and the length alone; `zeros` is the text after it."""
    high = [(0xFF << (8 - n) & 0xFF, b"00" + zeros, b"_%d" % (16 * i + n)) for n in range(8, 0, -1)]
    low = [(0xFF << (8 - n) & 0xFF, zeros, b"_%d" % (16 * i + 8 + n)) for n in range(8, 0, -1)]
    return (
        [(mask, after + length, length) for mask, after, length in high],
        [(mask, after + length, length) for mask, after, length in low],
    )


_IP6_STEPS = [(_ip6_steps(i, b":0" * (7 - i)), _ip6_steps(i, b"::")) for i in range(8)]


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


def ip4_keys(address: bytes) -> Iterator[bytes]:
    """Return the keys of the networks that hold a 4-byte address, /32 first and /0 last."""
    return chain.from_iterable(_ip4_batches(address))


def _ip4_batches(address: bytes) -> Iterator[list[bytes]]:
    for i in range(3, -1, -1):
        before = b"ip4/" + b"".join([b"%d." % octet for octet in address[:i]])
        octet = address[i]
        yield [before + _OCTET[octet & mask] + after for mask, after in _IP4_STEPS[i]]
    yield [b"ip4/0.0.0.0_0"]


def ip6_keys(address: bytes) -> Iterator[bytes]:
    """Return the keys of the networks that hold a 16-byte address, /128 first and /0 last."""
    return chain.from_iterable(_ip6_batches(address))


def _ip6_batches(address: bytes) -> Iterator[list[bytes]]:
    shapes = _ip6_shapes(address)
    for i in range(7, -1, -1):
        before, compressed, parent = shapes[i]
        high_steps, low_steps = _IP6_STEPS[i][compressed]
        high, low = address[2 * i], address[2 * i + 1]
        if high:
            head = before + _HEX[high]
            yield [head + _HEX_PAIR[low & mask] + after for mask, after, _ in low_steps]
        else:
            yield [before + _HEX[n] + after if (n := low & mask) else parent + end for mask, after, end in low_steps]
        yield [before + _HEX[n] + after if (n := high & mask) else parent + end for mask, after, end in high_steps]
    yield [b"ip6/::_0"]


def _ip6_shapes(address: bytes) -> list[tuple[bytes, bool, bytes]]:
    """Return, for each group, the text before it, whether the zeros after it become ``::``, and its parent."""
    groups = struct.unpack(">8H", address)
    words = [b"%x" % group for group in groups]
    shapes = []
    parent = b"ip6/::"
    start = length = run = 0  # the longest run of zeros among the groups passed; the run at hand
    for i, group in enumerate(groups):
        if group == 0:
            shapes.append((b"", False, parent))
            run += 1
            if run > length:
                start, length = i + 1 - run, run
            continue
        run = 0
        zeros = 7 - i
        compressed = zeros >= 2 and zeros > length
        if length >= 2 and not compressed:
            before = b"ip6/" + b":".join(words[:start]) + b"::" + b":".join([*words[start + length : i], b""])
        else:
            before = b"ip6/" + b":".join([*words[:i], b""])
        shapes.append((before, compressed, parent))
        parent = before + words[i] + (b"::" if compressed else b":0" * zeros)
    return shapes


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
