"""What can be wrong with a rule set or with a question put to one."""

from __future__ import annotations


class RuleSetError(Exception):
    """A rule set cannot be opened, compiled or decompiled; the message says why."""


class MalformedRecord(RuleSetError):
    """A cdb holds something that no compiler wrote: bad lengths, bad pointers, a bad value."""


class UsageProblem(RuleSetError):
    """The rule set itself is at fault (too large an environment, problems found by --strict), not the system."""


class AddressError(ValueError):
    """A text is not an IPv4 or IPv6 address in its strict form."""


def refuse(_: bytes, error: RuleSetError) -> None:
    """Raise what is told of a rule that cannot be read."""
    raise error
