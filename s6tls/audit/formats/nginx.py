"""nginx's ``allow`` and ``deny`` (ngx_http_access_module): the first that matches decides, and else all are allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.networks import Network, parse_cidr
from s6tls.audit.formats.entries import (
    EVERYTHING,
    Diagnostic,
    LineError,
    Parsed,
    Statement,
    Statements,
    first_match,
    networks_of,
    not_mapped,
    plain_rule,
    sound,
)
from s6tls.audit.formats.web.directives import Directive, Directives

if TYPE_CHECKING:
    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.loaded import LoadedRules

__all__ = ["parse", "write"]


def parse(data: bytes, *, mask_host_bits: bool = False) -> Parsed:
    """Read directives.  Raises BadText.

    Whoever none of them matches is allowed, and so by the rules, through networks of length 0.
    """
    read = Directives(data)
    statements = Statements()
    faults = read.faults
    for directive in read.found:
        statements.comments += directive.comments
        try:
            rule = _rule(directive)
            statements.say(_networks(directive.argument(), mask_host_bits), rule, directive.line, directive.note)
        except (LineError, AddressError) as error:
            faults.append(Diagnostic(directive.line, str(error)))
    everybody = (Statement(at, plain_rule(True)) for at in EVERYTHING)
    return sound(first_match([*statements, *everybody], (*statements.comments, *read.trailing)), faults)


def _rule(directive: Directive) -> Rule:
    if directive.name not in ("allow", "deny"):
        raise LineError("not a directive: allow or deny, an address, a network or all, and ;")
    return plain_rule(directive.name == "allow")


def _networks(what: str, mask_host_bits: bool) -> list[Network]:
    if what == "unix:":
        raise LineError("rules by address know no unix: clients")
    return EVERYTHING if what == "all" else [not_mapped(parse_cidr(what, mask_host_bits=mask_host_bits))]


def write(loaded: LoadedRules) -> str:
    """Return directives that decide equally, with a last one that denies whom no rule decides.  Raises Unsayable."""
    lines = [f"{'allow' if rule.allow else 'deny'} {at};\n" for at, rule in networks_of(loaded, says_mapped=False)]
    return "".join([*lines, "deny all;\n"])
