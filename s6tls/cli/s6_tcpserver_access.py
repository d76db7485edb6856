"""s6-tcpserver-access: check a client against access rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from s6tls.cli.frame.chain import Surroundings, run_link
from s6tls.cli.frame.options import Option, Synopsis, in_force, number
from s6tls.stages.access import Access, Lookups
from s6tls.stages.rulesource import CdbSource, DirectorySource, Rules

RULES_OPTIONS = (
    Option("i", ("rules-directory",), "rulesdir", "check clients against the rules in this directory"),
    Option("x", ("rules-file",), "rulesfile", "check clients against the rules in this cdb file", alternative=True),
)
ACCESS_OPTIONS = (
    Option("W", ("no-strict-resolution",), None, "let a client pass when looking up its name fails (the default)"),
    Option("w", ("strict-resolution",), None, "refuse a client when looking up its name fails", alternative=True),
    Option("D", ("no-nagle",), None, "disable Nagle's algorithm"),
    Option("d", ("nagle",), None, "leave Nagle's algorithm on (the default)", alternative=True),
    Option("H", ("no-dns",), None, "do not look names up"),
    Option("", ("dns",), None, "look names up (the default)", alternative=True),
    Option("h", ("hosts",), None, "look into /etc/hosts before the DNS"),
    Option("", ("no-hosts",), None, "do not (the default)", alternative=True),
    Option("R", ("no-ident",), None, "do not ask the client's IDENT server (the default)"),
    Option("r", ("ident",), None, "ask the client's IDENT server", alternative=True),
    Option("P", ("no-paranoid",), None, "do not check names forward (the default)"),
    Option("p", ("paranoid",), None, "drop a name whose addresses do not include the client's", alternative=True),
    Option("l", ("local-name",), "localname", "set the local host name instead of looking it up"),
    Option("B", ("banner",), "banner", "write this to the client first of all"),
    Option("t", ("timeout",), "timeout", "refuse the client (99) after this many milliseconds; 0 is never"),
    *RULES_OPTIONS,
)
SYNOPSIS = Synopsis(
    "s6-tcpserver-access",
    (
        Option("v", ("verbosity",), "verbosity", "0 errors, 1 also allowed clients, 2 also denied ones"),
        *ACCESS_OPTIONS,
    ),
    "prog...",
)


def stage(options: Sequence[tuple[str, bytes]], surroundings: Surroundings) -> Access:
    """Make the stage.  Raises UsageError."""
    given = in_force(SYNOPSIS.options, options)
    lookups = Lookups(
        names="H" not in given,
        hosts="h" in given,
        paranoid="p" in given,
        user="r" in given,
        strict="w" in given,
        timeout_ms=number("-t", given.get("t", b"0")),
    )
    return Access(
        rules=rule_source(given, surroundings.long_lived),
        verbosity=number("-v", given.get("v", b"1")),
        lookups=lookups,
        local_name=given.get("l"),
        banner=given.get("B", b""),
        nodelay="D" in given,
        helper=surroundings.lookup_helper(),
    )


def rule_source(given: Mapping[str, bytes], long_lived: bool) -> Rules | None:
    """Return the rules that -i or -x names, whichever counts, if any."""
    if "x" in given:
        return CdbSource(given["x"], private=long_lived)
    return DirectorySource(given["i"]) if "i" in given else None


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
