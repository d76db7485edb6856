"""Expectations of a rule set, and the TOML file that they are written in.

A file is a list of tables ``[[expect]]``.  Each has one of

    allow = ["192.0.2.0/24", "2001:db8::1"]    every address of each prefix is allowed
    deny = ["203.0.113.0/24"]                  every address of each prefix is denied, by a rule
    only = ["192.0.2.0/24"]                    no address of either family is allowed that lies in none of the prefixes

and may have ``about``, a text for the report.  Beside ``allow`` there may be ``env``, a table of variables that the
deciding rules set to these texts, or unset (``false``), and ``exec``, the text of their exec, or ``false`` for none.

Whatever else stands in a file is an error: an expectation that is passed over because of a slip would hold for ever.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.rule import Rule
from s6tls.audit.core import wording
from s6tls.audit.core.networks import parse_cidr

if TYPE_CHECKING:
    from s6tls.accessrules.rule import Env
    from s6tls.audit.core.networks import Network


WANTS = ("allow", "deny", "only")
_KEYS = (*WANTS, "about", "env", "exec")
_SHOWN = 100

LARGEST = 8 << 20
"""So many bytes a file has at most: the parser takes up to some 300 times as much memory."""

# Memory goes with the square of the number of a key's parts.  Each start of a match fails in few steps, so that the
# search takes time in proportion to the text.
_DEEPEST = 40
_PART = rb"""(?:(?<![\w-])[\w-]++|(?<!\\)"(?>(?:[^"\\\n]|\\.)*)"|'[^'\n]*+')[ \t]*+"""
_TOO_DEEP = re.compile(rb"(?:%b\.[ \t]*+){%d}" % (_PART, _DEEPEST))


class BadExpectations(ValueError):
    """A text is not a list of expectations; the message says which one is wrong, and how."""


@dataclass(frozen=True)
class Expectation:
    """What is expected of the addresses in `networks`, or for ``only`` of all others.

    `number` counts the expectations of a file from 1.  `wanted` is one of `WANTS`.  `env` lists changes that the
    deciding rules make, among others.  `exec` is the text of their exec, b"" for none; None stands for any or none.
    """

    number: int
    wanted: str
    networks: tuple[Network, ...]
    about: str = ""
    env: Env = ()
    exec: bytes | None = None

    def met_by(self, rule: Rule | None) -> bool:
        """Tell whether addresses that this rule decides, or none, are as expected (for ``only``, those elsewhere)."""
        if self.wanted == "only":
            return rule is None or not rule.allow
        if rule is None:
            return False
        if self.wanted == "deny":
            return not rule.allow
        return (
            rule.allow
            and all(change in rule.env for change in self.env)
            and (self.exec is None or self.exec == rule.exec)
        )

    def words(self) -> str:
        """Return what is wanted in a few words: ``allow ROLE=staff -DEBUG``."""
        if self.wanted == "only":
            return "nothing else is allowed"
        if self.wanted == "deny":
            return "deny"
        return wording.summary(Rule(True, self.env, self.exec or b"")) + (" without exec" if self.exec == b"" else "")


def parse(text: bytes) -> list[Expectation]:
    """Read a file of expectations.  Raises BadExpectations."""
    if len(text) > LARGEST:
        raise BadExpectations(f"larger than {LARGEST >> 20} MiB")
    if _TOO_DEEP.search(text):
        raise BadExpectations(f"more than {_DEEPEST} words with dots between them: no key is like that")
    try:
        document = tomllib.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadExpectations(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise BadExpectations("not TOML: nested too deeply") from error
    except ValueError as error:
        raise BadExpectations(f"not TOML: {error}") from error
    tables = document.pop("expect", None)
    if document:
        raise BadExpectations(f"unknown key: {next(iter(document))[:_SHOWN]}")
    if not (isinstance(tables, list) and tables and all(isinstance(table, dict) for table in tables)):
        raise BadExpectations("nothing is expected: it has no [[expect]]")
    return [_expectation(number, table) for number, table in enumerate(tables, 1)]


def _expectation(number: int, table: dict[str, Any]) -> Expectation:
    try:
        return _checked(number, table)
    except BadExpectations as error:
        raise BadExpectations(f"expectation {number}: {error}") from error


def _checked(number: int, table: dict[str, Any]) -> Expectation:
    for key in table:
        if key not in _KEYS:
            raise BadExpectations(f"unknown key: {key[:_SHOWN]}")
    wanted = [key for key in WANTS if key in table]
    if len(wanted) != 1:
        raise BadExpectations(f"it has to have one of allow, deny and only{', not several' if wanted else ''}")
    about = table.get("about", "")
    if not isinstance(about, str):
        raise BadExpectations("about: not a text")
    if wanted != ["allow"]:
        for key in ("env", "exec"):
            if key in table:
                raise BadExpectations(f"{key}: only beside allow")
    env = tuple(_change(name, value) for name, value in sorted(_table(table.get("env", {})).items()))
    return Expectation(number, wanted[0], _networks(wanted[0], table[wanted[0]]), about, env, _exec(table.get("exec")))


def _networks(wanted: str, value: Any) -> tuple[Network, ...]:
    if not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
        raise BadExpectations(f"{wanted}: not a list of addresses and prefixes, each a text")
    if not value and wanted != "only":
        raise BadExpectations(f"{wanted}: an empty list expects nothing")
    try:
        return tuple(parse_cidr(text) for text in value)
    except AddressError as error:
        raise BadExpectations(f"{wanted}: {error}") from error


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadExpectations("env: not a table")
    return value


def _change(name: str, value: Any) -> tuple[bytes, bytes | None]:
    if not name or "=" in name or "\0" in name:
        raise BadExpectations(f"env: no variable can have this name: {name!r}")
    if value is False:
        return name.encode(), None
    if not isinstance(value, str):
        raise BadExpectations(f"env: {name}: not a text, nor false")
    if "\0" in value:
        raise BadExpectations(f"env: {name}: no variable can hold a NUL")
    return name.encode(), value.encode()


def _exec(value: Any) -> bytes | None:
    if value is None:
        return None
    if value is False:
        return b""
    if not isinstance(value, str):
        raise BadExpectations("exec: not a text, nor false")
    return value.encode()
