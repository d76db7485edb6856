"""Host names as strangers give them: bounded and normalised before they become keys or variables."""

from __future__ import annotations

import re
from collections.abc import Iterable

from s6tls.accessrules import AddressError
from s6tls.accessrules.keys import parse_address

_LONGEST_NAME = 253
_NAME = re.compile(rb"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


def normalised(name: str | bytes) -> bytes | None:
    """Return a host name in lower case and without a final dot, or None for what is no host name.

    Letters, digits, hyphens and underscores in labels of 1 to 63 bytes, 253 bytes in all (RFC 1123; underscores
    are common).  A name that looks like an address is none: it would be taken for one.
    """
    raw = name.encode("utf-8", "replace") if isinstance(name, str) else name
    raw = raw.lower().removesuffix(b".")
    if len(raw) > _LONGEST_NAME or not _NAME.fullmatch(raw):
        return None
    if raw.rpartition(b".")[2].isdigit():
        return None
    return raw


def in_hosts_file(lines: Iterable[bytes], address: bytes) -> bytes | None:
    """Return the first usable name that a hosts(5) file gives a 4- or 16-byte address, or None."""
    for line in lines:
        words = line.partition(b"#")[0].split()
        if len(words) >= 2 and _is(words[0], address):
            for word in words[1:]:
                name = normalised(word)
                if name is not None:
                    return name
    return None


def _is(text: bytes, address: bytes) -> bool:
    try:
        return parse_address(text) == address
    except AddressError:
        return False


def reverse_name(address: bytes) -> str:
    """Return the name under which the DNS keeps the names of a 4- or 16-byte address (RFC 1035, RFC 3596)."""
    if len(address) == 4:
        return ".".join(str(octet) for octet in reversed(address)) + ".in-addr.arpa"
    return ".".join(reversed(address.hex())) + ".ip6.arpa"
