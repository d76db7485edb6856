"""From what is known of a client to the keys to probe, most specific first.

Keys are made lazily: a rule that matches early saves the making of the rest.

A client's address lies in 33 or 129 networks, and the time of a lookup is the time
to write down their keys; asking a cdb for one takes a tenth of a microsecond.  Hence:

Networks are written a *batch* at a time, one octet (IPv4) or one 16-bit group
(IPv6) after the other, from the last to the first.  Within a batch only that one number varies, for
what stands before it is the address's own and what stands after it is zeros.  So a
batch costs one look at the whole address, and each of its keys a masking and a
concatenation or two.

For IPv6, the text around the number depends on where ``::`` falls.  The rule is: the
longest run of two or more zero groups, the first of equals.  If the masked group is not
zero, the candidates are the runs in the groups before it, which are the same for the
whole batch, and the zeros after it; so ``_ip6_shapes`` decides once per group.  If it
is zero, then the network's text is that of the network that ends just before this
group, its *parent*.  Neighbouring networks often are one number with two
lengths, and then even the text is the last one's.
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

# For each octet, or 16-bit group, what its networks differ in: the mask, and what follows the masked number.
_IP4_STEPS = [
    [(0xFF << (8 - n) & 0xFF, b".0" * (3 - i) + b"_%d" % (8 * i + n)) for n in range(8, 0, -1)] for i in range(4)
]
_IP6_STEPS = [[(0xFFFF << (16 - n) & 0xFFFF, b"_%d" % (16 * i + n)) for n in range(16, 0, -1)] for i in range(8)]

_OCTET = [b"%d" % octet for octet in range(256)]
_DECIMAL = [b"%d." % octet for octet in range(256)]


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
        before = b"ip4/" + b"".join([_DECIMAL[octet] for octet in address[:i]])
        octet = address[i]
        yield [before + _OCTET[octet & mask] + after for mask, after in _IP4_STEPS[i]]
    yield [b"ip4/0.0.0.0_0"]


def ip6_keys(address: bytes) -> Iterator[bytes]:
    """Return the keys of the networks that hold a 16-byte address, /128 first and /0 last."""
    return chain.from_iterable(_ip6_batches(address))


def _ip6_batches(address: bytes) -> Iterator[list[bytes]]:
    groups = struct.unpack(">8H", address)
    shapes = _ip6_shapes(groups)
    for i in range(7, -1, -1):
        group = groups[i]
        before, after, parent = shapes[i]
        last, text = -1, b""
        keys = []
        for mask, length in _IP6_STEPS[i]:
            masked = group & mask
            if masked != last:
                text = before + b"%x" % masked + after if masked else parent
                last = masked
            keys.append(text + length)
        yield keys
    yield [b"ip6/::_0"]


def _ip6_shapes(groups: tuple[int, ...]) -> list[tuple[bytes, bytes, bytes]]:
    """Return, for each group, what stands before and after it in a network that ends within it, and its parent.

    The parent is the text of the network that ends just before the group.
    """
    shapes = []
    words = [b"%x" % group for group in groups]
    parent = b"ip6/::"
    start = length = run = 0  # the longest run of zeros among the groups passed; the run at hand
    for i, group in enumerate(groups):
        if group == 0:
            shapes.append((b"", b"", parent))
            run += 1
            if run > length:
                start, length = i + 1 - run, run
            continue
        run = 0
        zeros = 7 - i
        if zeros > length and zeros >= 2:
            before, after = b":".join([*words[:i], b""]), b"::"
        elif length >= 2:
            before = b":".join(words[:start]) + b"::" + b":".join([*words[start + length : i], b""])
            after = b":0" * zeros
        else:
            before, after = b":".join([*words[:i], b""]), b":0" * zeros
        before = b"ip6/" + before
        shapes.append((before, after, parent))
        parent = before + words[i] + after
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
