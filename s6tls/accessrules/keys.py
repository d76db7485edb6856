"""From what is known of a client to the keys to probe, most specific first.

Keys are made lazily: a rule that matches early saves the making of the rest.

A client's address lies in 33 or 129 networks, and the time of a lookup is the time
to write down their keys; asking a cdb for one takes a tenth of a microsecond.  Hence:

Networks are written a *batch* at a time, one octet (IPv4) or one 16-bit group (IPv6)
after the other, from the last to the first.  Within a batch only that one number
varies, for what stands before it is the address's own and what stands after it is zeros.
What can be written down beforehand stands in tables.

For IPv6, the text around the group depends on where ``::`` falls.  The rule is: the
longest run of two or more zero groups, the first of equals.  If the masked group is not zero, the
candidates are the runs in the groups before it, which are the same for all sixteen
networks that end within the group, and the zeros after it; so ``_ip6_shapes`` decides
once per group.  If the masked group is zero, then the network's text is that of the
network that ends just before the group, its *parent*.

So a key is one of two beginnings and an ending that depends on one octet only.
Adding them up one by one would still be most of the time; ``beginning.join(endings)``
writes eight keys in one go, if each ending closes with a separator and an empty one stands in
front, and ``split()`` takes them apart.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
from itertools import chain
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_OCTET = [b"%d" % octet for octet in range(256)]
_HEX = [b"%x" % octet for octet in range(256)]

# For each octet, what its eight networks differ in: the mask, and what follows the masked number.
_IP4_STEPS = [
    [(0xFF << (8 - n) & 0xFF, b".0" * (3 - i) + b"_%d" % (8 * i + n)) for n in range(8, 0, -1)] for i in range(4)
]

# Between colons, the longest first.
_RUNS_OF_ZEROS = [b":0" * groups + b":" for groups in range(8, 1, -1)]

_LONGEST_NAME = 255

BY_NAME = b"reversedns/"
"""What the keys of rules by host name begin with."""

ANY_NAME = BY_NAME + b"@"
"""The rule for all clients whose name no other rule has, or whose name is not known."""

_Endings = tuple[list[bytes], list[bytes]]


@functools.cache
def _ip6_endings(i: int, octet: int, half: int, compressed: bool) -> _Endings:
    """Return what ends the keys of the eight networks within one octet of group `i`, as input for bytes.join().

    First for those in which the masked group is not zero: the octet, the zeros after it, and the length.
    Then for the rest: the length alone.  `half` is _HIGH for a group's high octet, _LOW
    for its low octet, and _LOW_AFTER for a low octet that digits stand before.
    """
    zeros = (b"00" if half == _HIGH else b"") + (b"::" if compressed else b":0" * (7 - i))
    digits = b"%02x" if half == _LOW_AFTER else b"%x"
    first = 16 * i + (0 if half == _HIGH else 8)
    nonzero, zero = [b""], [b""]
    for n in range(8, 0, -1):
        length = b"_%d " % (first + n)
        masked = octet & 0xFF << (8 - n)
        if masked or half == _LOW_AFTER:
            nonzero.append(digits % masked + zeros + length)
        else:
            zero.append(length)
    return nonzero, zero


_HIGH, _LOW, _LOW_AFTER = range(3)
_MAPPED = bytes(10) + b"\xff\xff"


def parse_address(text: str | bytes) -> bytes:
    """Return the 4 or 16 bytes of the address that `text` is.  Raises AddressError.

    Only the plain forms count: four decimal numbers without leading zeros, or
    IPv6 text without a scope.
    """
    try:
        plain = text if isinstance(text, str) else text.decode("ascii")
        return socket.inet_pton(socket.AF_INET6 if ":" in plain else socket.AF_INET, plain)
    except (OSError, ValueError):
        raise AddressError(f"not an address: {text if isinstance(text, str) else shown(text)}") from None


def client_address(text: str | bytes) -> bytes:
    """Return the 4 or 16 bytes of a client's address.  Raises AddressError.

    One that is mapped into IPv6 (``::ffff:192.0.2.1``, RFC 4291, 2.5.5.2) is the IPv4 client: a proxy or a socket for
    both families tells of it so, and what is denied to the client is denied to it under either text.
    """
    return unmapped(parse_address(text))


def unmapped(packed: bytes) -> bytes:
    """Return the IPv4 address that a 16-byte address stands for, or the address itself."""
    return packed[12:] if packed.startswith(_MAPPED) and len(packed) == 16 else packed


def address_text(address: bytes) -> bytes:
    """Return the canonical text of a 4- or 16-byte address: that of its keys, which no library's version changes."""
    if len(address) == 4:
        return b"%d.%d.%d.%d" % tuple(address)
    text = b":%x:%x:%x:%x:%x:%x:%x:%x:" % struct.unpack(">8H", address)
    for zeros in _RUNS_OF_ZEROS:
        before, found, after = text.partition(zeros)
        if found:
            return before[1:] + b"::" + after[:-1]
    return text[1:-1]


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
        high, low = address[2 * i], address[2 * i + 1]
        nonzero, zero = _ip6_endings(i, high, _HIGH, compressed)
        keys = before.join(nonzero) + parent.join(zero)
        if high:
            keys = (before + _HEX[high]).join(_ip6_endings(i, low, _LOW_AFTER, compressed)[0]) + keys
        else:
            nonzero, zero = _ip6_endings(i, low, _LOW, compressed)
            keys = before.join(nonzero) + parent.join(zero) + keys
        yield keys.split()
    yield [b"ip6/::_0"]


def _ip6_shapes(address: bytes) -> list[tuple[bytes, bool, bytes]]:
    """Return, for each group, the text before it, whether the zeros after it become ``::``, and its parent."""
    shapes = []
    parent = b"ip6/::"
    plain = b"ip6/"  # the groups passed, in full
    short = head = b""  # the same with the longest run of zeros as ::, if it is long enough; what stands before a run
    longest = run = 0
    for zeros, group in zip(range(7, -1, -1), struct.unpack(">8H", address), strict=True):
        word = b"%x:" % group
        if group == 0:
            shapes.append((b"", False, parent))
            if run == 0:
                head = plain
            run += 1
            short += word
            if run > longest:
                longest = run
                short = head.removesuffix(b":") + b"::"
        else:
            run = 0
            compressed = zeros >= 2 and zeros > longest
            before = short if longest >= 2 and not compressed else plain
            shapes.append((before, compressed, parent))
            parent = before + word[:-1] + (b"::" if compressed else b":0" * zeros)
            short += word
        plain += word
    return shapes


def name_keys(name: bytes) -> Iterator[bytes]:
    """Yield the keys for a host name: the name, then what follows each dot, then ``reversedns/@``.

    Upper case counts as lower case, and a final dot is dropped.  A name comes from the network: what could not
    be the name of a rule (it is empty, longer than names of files are, starts with a dot, or has a slash or a NUL)
    is left out.
    """
    rest = name.lower().removesuffix(b".")
    more = b"."
    while more:
        if 0 < len(rest) <= _LONGEST_NAME and rest[0] != 0x2E and b"/" not in rest and b"\0" not in rest:
            yield BY_NAME + rest
        _, more, rest = rest.partition(b".")
    yield ANY_NAME


def uidgid_keys(uid: int, gid: int, euid: int | None = None, egid: int | None = None) -> Iterator[bytes]:
    """Yield the keys for a local client.  `euid` and `egid` say who ``self`` is, by default this process."""
    if uid == (os.geteuid() if euid is None else euid):
        yield b"uid/self"
    yield b"uid/%d" % uid
    if gid == (os.getegid() if egid is None else egid):
        yield b"gid/self"
    yield b"gid/%d" % gid
    yield b"uid/default"
