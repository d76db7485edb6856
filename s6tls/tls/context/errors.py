"""Why there is no context."""

from __future__ import annotations


class BadConfiguration(Exception):
    """A key, a certificate or an option that cannot be used; the message says which and why."""


class Mismatch(BadConfiguration):
    """A key and a certificate that do not belong together."""
