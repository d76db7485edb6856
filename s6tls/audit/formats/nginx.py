"""nginx's ``allow`` and ``deny`` (ngx_http_access_module): the first that matches decides, and else all are allowed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s6tls.audit.formats.entries import (
    EVERYTHING,
    BadText,
    Fault,
    Parsed,
    Refusal,
    Statement,
    clean,
    each_line,
    first_match,
    network,
    networks_of,
    plain_rule,
)

if TYPE_CHECKING:
    from s6tls.audit.contents import Contents

_DIRECTIVE = re.compile(r"[ \t]*(allow|deny)[ \t]+([^ \t;]+)[ \t]*;[ \t]*(?:#(.*))?")


def parse(data: bytes) -> Parsed:
    """Read directives, one a line.  Raises BadText.

    Whoever none of them matches is allowed, and so by the rules, through networks of length 0.
    """
    statements: list[Statement] = []
    faults: list[Fault] = []

    def take(number: int, line: str) -> None:
        if not line.strip() or line.lstrip().startswith("#"):
            return
        found = _DIRECTIVE.fullmatch(line)
        if found is None:
            raise Refusal("not one directive: allow or deny, an address, a network or all, and ;")
        verdict, what, note = found.groups()
        if what == "unix:":
            raise Refusal("rules by address know no unix: clients")
        for at in EVERYTHING if what == "all" else [network(what)]:
            statements.append(Statement(at, plain_rule(verdict == "allow"), number, clean(note or "")))

    each_line(data, take, faults)
    if faults:
        raise BadText(faults)
    return first_match([*statements, *(Statement(at, plain_rule(True)) for at in EVERYTHING)])


def write(contents: Contents) -> str:
    """Return directives that decide equally, with a last one that denies whom no rule decides.  Raises Unsayable."""
    lines = [f"{'allow' if rule.allow else 'deny'} {at};\n" for at, rule in networks_of(contents)]
    return "".join([*lines, "deny all;\n"])
