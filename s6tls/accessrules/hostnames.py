"""Host names, as strangers give them and as rules have them: bounded and normalised before they become keys."""

from __future__ import annotations

import re

_LONGEST_NAME = 253
_LABEL = rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rb"(?:%b\.)*%b" % (_LABEL, _LABEL))


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
