"""What rules and clients are named by: user and group ids as text, and host names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s6tls.accessrules.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_NAME = 253
_LABEL = rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rb"(?:%b\.)*%b" % (_LABEL, _LABEL))
HIGHEST = 2**32 - 2
"""One more means "leave it as it is" to the system."""


class BadId(ValueError):
    """Text that is no id, or no list of them."""


def parse_id(text: bytes) -> int:
    """Read a decimal user or group id.  Raises BadId for anything else, 2^32-1 included."""
    if not (text.isdigit() and len(text) <= 10 and int(text) <= HIGHEST):
        raise BadId(f"invalid id: {shown(text)}")
    return int(text)


def parse_groups(text: bytes) -> tuple[int, ...]:
    """Read a comma-separated list of group ids, in which nothing between commas is passed over.  Raises BadId."""
    return tuple(parse_id(part) for part in text.split(b",") if part)


def groups_text(groups: Iterable[int]) -> bytes:
    """Write a list of group ids as `parse_groups` reads it."""
    return b",".join(b"%d" % group for group in groups)


IN_ENVIRONMENT = {
    b"UID": parse_id,
    b"GID": parse_id,
    b"GIDLIST": parse_groups,
    b"TLS_UID": parse_id,
    b"TLS_GID": parse_id,
}
"""The variables that servers take ids from, and how they are read."""


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
