"""Requests: what a helper is asked over its control socket, a message each with a descriptor or two."""

from __future__ import annotations

LOOKUP, PROXY = "lookup", "proxy"
KINDS = (LOOKUP, PROXY)
LARGEST = 4096
"""The most bytes of a message."""
MOST_DESCRIPTORS = 2
"""One for the reply, and the client's."""
