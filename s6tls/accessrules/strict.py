"""Rules that cannot be meant: what ``--strict`` refuses.

A rule whose name is not the exact text that a lookup asks for never matches, and
says nothing about it.  `s6-accessrules lint` will know more; these are the errors that a name alone shows.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from s6tls.accessrules import keys
from s6tls.accessrules.compile import read_tree
from s6tls.accessrules.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterator


def problems(directory: str | bytes) -> Iterator[str]:
    """Yield a line for each rule of a tree that can never match.  Raises RuleSetError if the tree cannot be read."""
    for key, _ in read_tree(directory):
        family, _, name = key.partition(b"/")
        if family in (b"ip4", b"ip6"):
            problem = address_problem(family, name)
            if problem:
                yield f"{shown(key)} can never match: {problem}"


def address_problem(family: bytes, name: bytes) -> str:
    """Say why no address of this family (``ip4`` or ``ip6``) can match a rule of this name, or return ""."""
    text, _, digits = name.rpartition(b"_")
    bits = 32 if family == b"ip4" else 128
    if not digits.isdigit() or len(digits) > 3 or int(digits) > bits or (digits[:1] == b"0" and digits != b"0"):
        return f"it does not end with _ and a prefix length from 0 to {bits}"
    try:
        packed = socket.inet_pton(socket.AF_INET if family == b"ip4" else socket.AF_INET6, text.decode("ascii"))
    except (OSError, ValueError):
        return "its name does not start with an address"
    asked = list(keys.ip4_keys(packed) if family == b"ip4" else keys.ip6_keys(packed))[bits - int(digits)]
    if asked == family + b"/" + name:
        return ""
    return f"write it as {asked.partition(b'/')[2].decode('ascii')}"
