"""Strangers' texts that become variables of a program: names, or nothing.

A program may put such a variable into a path, a query, a line of a log or a shell's command.  So nothing passes that
is no name: no control characters, no path, no bytes beyond ASCII.
"""

from __future__ import annotations

import re

from s6tls.accessrules.identifiers import normalised

_TOKEN = re.compile(rb"[A-Za-z0-9]+(?:[./+_-][A-Za-z0-9]+)*")
_WORDS = re.compile(rb"[ -.0-\[\]-~]+")


def host_name(text: bytes) -> bytes:
    """Return a host name as it was given, or b"" for what is none."""
    return text if normalised(text) is not None else b""


def token(text: bytes) -> bytes:
    """Return the name of a protocol or cipher, such as ``http/1.1`` or ``TLS_AES_256_GCM_SHA384``, or b""."""
    return text if _TOKEN.fullmatch(text) else b""


def words(text: bytes) -> bytes:
    """Return the name of a person or thing, of printable ASCII without slashes and backslashes, or b""."""
    return text if _WORDS.fullmatch(text) else b""
