"""Host names in a hosts file, and the name to ask the DNS for to get the names of an address."""

from __future__ import annotations

from collections.abc import Iterable

from s6tls.accessrules import AddressError
from s6tls.accessrules.identifiers import normalised
from s6tls.accessrules.keys import parse_address


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
    """Return the DNS name to look up for the names of a 4- or 16-byte address (RFC 1035, RFC 3596)."""
    if len(address) == 4:
        return ".".join(str(octet) for octet in reversed(address)) + ".in-addr.arpa"
    return ".".join(reversed(address.hex())) + ".ip6.arpa"
