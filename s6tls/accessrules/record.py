"""The value of a record in a cdb rule set, to and from bytes.

``D`` denies.  ``A``, a 16-bit big-endian length, that many bytes of environment, another
such length, and that many bytes of execlineb text allow.  The environment is a run of
NUL-terminated strings: ``NAME=value`` sets and ``NAME`` unsets.  Source of the format:
the documentation of s6 (s6-accessrules-cdb-from-fs, libs6/accessrules) and what
its programs write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.errors import MalformedRecord, UsageProblem
from s6tls.accessrules.rule import ALLOW, DENY, Rule

if TYPE_CHECKING:
    from s6tls.accessrules.rule import Env

MAX_ENV = 4096
MAX_EXEC = 4096
MAX_VALUE = 1 + 2 + MAX_ENV + 2 + MAX_EXEC

_PLAIN_ALLOW = b"A\0\0\0\0"


def decode(value: bytes) -> Rule | None:
    """Return the rule that `value` stands for, or None when its first byte says that it is none.

    Raises MalformedRecord.
    """
    if value == _PLAIN_ALLOW:
        return ALLOW
    if not value:
        raise MalformedRecord("record is empty")
    if len(value) > MAX_VALUE:
        raise MalformedRecord("record is too long")
    kind = value[:1]
    if kind == b"D":
        return DENY
    if kind != b"A":
        return None
    env, exec_ = split(value)
    return Rule(True, decode_env(env), exec_)


def split(value: bytes) -> tuple[bytes, bytes]:
    """Return the environment and the exec of a value, whatever its first byte.  Raises MalformedRecord."""
    env_end = 3 + int.from_bytes(value[1:3], "big")
    exec_start = env_end + 2
    exec_end = exec_start + int.from_bytes(value[env_end:exec_start], "big")
    if exec_start > len(value) or exec_end != len(value):
        raise MalformedRecord("lengths in record do not add up")
    if env_end - 3 > MAX_ENV or exec_end - exec_start > MAX_EXEC:
        raise MalformedRecord("environment or exec in record too long")
    return value[3:env_end], value[exec_start:exec_end]


def decode_env(block: bytes) -> Env:
    """Return the changes that a run of NUL-terminated strings asks for.  Raises MalformedRecord."""
    if not block:
        return ()
    *strings, rest = block.split(b"\0")
    if rest:
        raise MalformedRecord("environment in record does not end with a NUL")
    changes: list[tuple[bytes, bytes | None]] = []
    for string in strings:
        name, equals, value = string.partition(b"=")
        if not name:
            raise MalformedRecord("environment in record has a variable without a name")
        changes.append((name, value if equals else None))
    return tuple(changes)


def encode(rule: Rule) -> bytes:
    """Return the value that stands for `rule`.  Raises UsageProblem when its environment is too large."""
    if not rule.allow:
        return b"D"
    if rule is ALLOW:
        return _PLAIN_ALLOW
    env = b"".join([name + b"\0" if value is None else b"%b=%b\0" % (name, value) for name, value in rule.env])
    if len(env) > MAX_ENV:
        raise UsageProblem(f"environment takes {len(env)} bytes, more than {MAX_ENV}")
    return b"A%b%b%b%b" % (len(env).to_bytes(2, "big"), env, len(rule.exec).to_bytes(2, "big"), rule.exec)
