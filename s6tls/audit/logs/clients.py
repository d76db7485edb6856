"""A client's address as logs write it: maybe with a port, maybe in a list of those who forwarded the request."""

from __future__ import annotations

import re

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.keys import client_address

LONGEST = 64
"""A text that is longer than the longest address with a port is none; of it this many bytes are kept, to show."""

FIRST, LAST = 0, -1

_WITH_PORT = re.compile(rb"\[([^]]*:[^]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
_MARKS = re.compile(rb'[,"= \t\r]')
_COMMA = re.compile(rb",(?:[ \t+]|%20)*")
_FORWARDED_FOR = re.compile(rb'(?:.*;)?[ \t]*for="?([^";]*)"?', re.IGNORECASE | re.DOTALL)


def packed_or_none(text: bytes) -> bytes | None:
    """Return the 4 or 16 bytes of an address that may have a port, or None for any other text."""
    if not text:
        return None
    found = _WITH_PORT.fullmatch(text)
    if found:
        text = found[1] or found[2]
    try:
        return client_address(text)
    except AddressError:
        return None


def cut(texts: list[bytes]) -> list[bytes]:
    """Return of each text no more than is kept of one."""
    return [text[:LONGEST] for text in texts]


def each_chosen(texts: list[bytes], which: int) -> list[bytes]:
    """Return `chosen` of each text."""
    if which in (FIRST, LAST) and not _MARKS.search(b"".join(texts)):
        return texts
    return [chosen(text, which) for text in texts]


def chosen(text: bytes, which: int) -> bytes:
    """Return what stands for one client in a list with commas, as X-Forwarded-For and Forwarded (RFC 7239) have it.

    `which` is its index, from the end if negative; without one there, the answer is empty.
    """
    texts = _COMMA.split(text) if b"," in text else [text]
    if not -len(texts) <= which < len(texts):
        return b""
    one = texts[which].strip(b' \t\r"')
    found = _FORWARDED_FOR.match(one) if b"=" in one else None
    return (found[1] if found else one)[:LONGEST]
