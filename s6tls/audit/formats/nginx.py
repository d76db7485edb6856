"""nginx's ``allow`` and ``deny`` (ngx_http_access_module): the first that matches decides, and else all are allowed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Network, parse_cidr
from s6tls.audit.formats.entries import (
    EVERYTHING,
    LineError,
    Parsed,
    Statement,
    clean,
    each_line,
    first_match,
    networks_of,
    not_mapped,
    plain_rule,
)

if TYPE_CHECKING:
    from s6tls.audit.core.loaded import LoadedRules

__all__ = ["parse", "write"]

_DIRECTIVE = re.compile(r"[ \t]*(allow|deny)[ \t]+([^ \t;]+)[ \t]*;[ \t]*")


def parse(data: bytes) -> Parsed:
    """Read directives, one or more a line.  Raises BadText.

    Whoever none of them matches is allowed, and so by the rules, through networks of length 0.
    """
    statements: list[Statement] = []

    def take(number: int, line: str) -> None:
        found, note = _directives(line.strip(" \t"))
        for verdict, what in found:
            rule = plain_rule(verdict == "allow")
            statements.extend(Statement(at, rule, number, note) for at in _networks(what))

    each_line(data, take)
    return first_match([*statements, *(Statement(at, plain_rule(True)) for at in EVERYTHING)])


def _directives(line: str) -> tuple[list[tuple[str, str]], str]:
    """Return the directives of a line and the comment behind them; a line that is a comment has neither."""
    found: list[tuple[str, str]] = []
    end = 0
    while directive := _DIRECTIVE.match(line, end):
        found.append((directive[1], directive[2]))
        end = directive.end()
    rest = line[end:]
    if rest and not rest.startswith("#"):
        raise LineError("not a directive: allow or deny, an address, a network or all, and ;")
    return found, clean(rest[1:]) if found else ""


def _networks(what: str) -> list[Network]:
    if what == "unix:":
        raise LineError("rules by address know no unix: clients")
    return EVERYTHING if what == "all" else [not_mapped(parse_cidr(what))]


def write(loaded: LoadedRules) -> str:
    """Return directives that decide equally, with a last one that denies whom no rule decides.  Raises Unsayable."""
    lines = [f"{'allow' if rule.allow else 'deny'} {at};\n" for at, rule in networks_of(loaded, says_mapped=False)]
    return "".join([*lines, "deny all;\n"])
