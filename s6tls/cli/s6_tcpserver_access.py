"""s6-tcpserver-access: check a client against access rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from s6tls.cli.chain import Surroundings, run_link
from s6tls.cli.options import Option, Synopsis, UsageError, number
from s6tls.ucspi.access import Access, Rules
from s6tls.ucspi.rulesource import CdbSource, DirectorySource

ACCESS_OPTIONS = (
    Option("W", ("no-strict-resolution",), None, "let a client pass when looking up its name fails (the default)"),
    Option("w", ("strict-resolution",), None, "refuse a client when looking up its name fails", alternative=True),
    Option("D", ("no-nagle",), None, "disable Nagle's algorithm"),
    Option("d", ("nagle",), None, "leave Nagle's algorithm on (the default)", alternative=True),
    Option("H", ("no-dns",), None, "do not look names up"),
    Option("", ("dns",), None, "look names up (the default)", alternative=True),
    Option("h", ("hosts",), None, "look into /etc/hosts before the DNS (not yet)"),
    Option("", ("no-hosts",), None, "do not (the default)", alternative=True),
    Option("R", ("no-ident",), None, "do not ask the client's IDENT server (the default)"),
    Option("r", ("ident",), None, "ask the client's IDENT server (not yet)", alternative=True),
    Option("P", ("no-paranoid",), None, "do not check names forward (the default)"),
    Option(
        "p", ("paranoid",), None, "drop a name whose addresses do not include the client's (not yet)", alternative=True
    ),
    Option("l", ("local-name",), "localname", "set the local host name instead of looking it up"),
    Option("B", ("banner",), "banner", "write this to the client first of all"),
    Option("t", ("timeout",), "timeout", "refuse the client (99) after this many milliseconds; 0 is never"),
    Option("i", ("rules-directory",), "rulesdir", "check clients against the rules in this directory"),
    Option("x", ("rules-file",), "rulesfile", "check clients against the rules in this cdb file", alternative=True),
)
SYNOPSIS = Synopsis(
    "s6-tcpserver-access",
    (
        Option("v", ("verbosity",), "verbosity", "0 errors, 1 also allowed clients, 2 also denied ones"),
        *ACCESS_OPTIONS,
    ),
    "prog...",
)
_NOT_YET = {"h": "looking names up in /etc/hosts", "r": "IDENT", "p": "paranoid name checks"}
_PAIRS = (("D", "d"), ("r", "R"), ("p", "P"), ("w", "W"), ("H", "dns"), ("h", "no-hosts"))
_OPPOSITES = {**dict(_PAIRS), **{no: yes for yes, no in _PAIRS}}


def stage(options: Sequence[tuple[str, bytes]], surroundings: Surroundings) -> Access:
    """Make the stage.  Raises UsageError."""
    given: dict[str, bytes] = {}
    for name, value in options:
        given.pop(_OPPOSITES.get(name, ""), None)
        given[name] = value
    for name, what in _NOT_YET.items():
        if name in given and not (name == "h" and "H" in given):
            raise UsageError(f"-{name} is not supported: {what} is yet to come")
    number("-t", given.get("t", b"0"))
    return Access(
        rules=_rules(given, surroundings.long_lived),
        verbosity=number("-v", given.get("v", b"1")),
        local_name=given.get("l"),
        banner=given.get("B", b""),
        nodelay="D" in given,
    )


def _rules(given: dict[str, bytes], long_lived: bool) -> Rules | None:
    if "i" in given and "x" in given:
        raise UsageError("-i and -x exclude each other")
    if "x" in given:
        return CdbSource(given["x"], private=long_lived)
    return DirectorySource(given["i"]) if "i" in given else None


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
