"""What tcprules compiles: a cdb from addresses, such as ``1.2.3.`` or nothing, to what tcpserver does.

A value is words that end with a NUL: ``D`` for a deny, and ``+NAME=value`` for a variable.  Of records with one key the
first counts.  The number of a record takes the place of that of a line.
"""

from __future__ import annotations

import os

from s6tls.accessrules.cdbfile import records
from s6tls.accessrules.errors import RuleSetError
from s6tls.accessrules.text import shown
from s6tls.audit.formats.entries import (
    BadText,
    Diagnostic,
    LineError,
    Parsed,
    Statements,
    plain_rule,
    sound,
)
from s6tls.audit.formats.tcprules import most_numbers_first, networks_of_address, with_env

__all__ = ["parse"]


def parse(data: bytes, *, drop_env: bool = False) -> Parsed:
    """Read a compiled file, or with `drop_env` its verdicts only.  Raises BadText."""
    levels: list[Statements] = [Statements() for _ in range(5)]
    faults: list[Diagnostic] = []
    for number, (key, value) in enumerate(_records(data), 1):
        try:
            if not key.isascii():
                raise LineError(f"no address: {shown(key)}")
            level, networks = networks_of_address(key.decode())
            verdict, env = _instructions(value)
            if env and not verdict and not drop_env:
                raise LineError("a deny sets no variables")
            rule = with_env(env) if env and not drop_env else plain_rule(verdict)
            levels[level].say(networks, rule, number)
        except LineError as error:
            faults.append(Diagnostic(number, f"record of {shown(key) or 'everybody'}: {error}"))
    return sound(most_numbers_first(levels), faults)


def _records(data: bytes) -> list[tuple[bytes, bytes]]:
    descriptor = os.memfd_create("tcprules", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        return list(records(descriptor))
    except RuleSetError as error:
        raise BadText([Diagnostic(1, str(error))], Parsed([])) from error
    finally:
        os.close(descriptor)


def _instructions(value: bytes) -> tuple[bool, tuple[tuple[bytes, bytes | None], ...]]:
    """Return the verdict and the variables of a record.  Raises LineError."""
    allow = True
    env: list[tuple[bytes, bytes | None]] = []
    *words, rest = value.split(b"\0")
    for word in words:
        name, equals, text = word[1:].partition(b"=")
        if word.startswith(b"D"):
            allow = False
        elif word.startswith(b"+") and name and equals:
            env.append((name, text))
        else:
            raise LineError(f"neither D nor +NAME=value: {shown(word)}")
    if rest:
        raise LineError(f"no NUL ends it: {shown(rest)}")
    return allow, tuple(env)
