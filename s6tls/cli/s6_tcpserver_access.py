"""s6-tcpserver-access: check a client against access rules."""

from __future__ import annotations

from typing import NoReturn

from s6tls.cli.frame.chain import Runtime, run_link
from s6tls.cli.frame.options import LOG_FORMAT, Given, Option, Synopsis
from s6tls.stages.access import Access, Lookups
from s6tls.stages.rulesource import CdbSource, DirectorySource, Rules

RULES_OPTIONS = (
    Option(
        "i",
        ("rules-directory",),
        "rulesdir",
        "check clients against the rules in this directory; it is read afresh for each client",
    ),
    Option(
        "x",
        ("rules-file",),
        "rulesfile",
        "check clients against the rules in this cdb file. Once it is replaced, the new one decides. "
        "Without `-i` and `-x`, everybody is let in",
        alternative=True,
    ),
)
ACCESS_OPTIONS = (
    Option(
        "W",
        ("no-strict-resolution",),
        None,
        "let a client pass when the lookup of its name or user fails (the default)",
    ),
    Option("w", ("strict-resolution",), None, "refuse it", alternative=True),
    Option("D", ("no-nagle",), None, "disable Nagle's algorithm"),
    Option("d", ("nagle",), None, "leave it on (the default)", alternative=True),
    Option("H", ("no-dns",), None, "do not look up names"),
    Option("", ("dns",), None, "look up names (the default)", alternative=True),
    Option("h", ("hosts",), None, "look into `/etc/hosts` before the DNS"),
    Option("", ("no-hosts",), None, "do not (the default)", alternative=True),
    Option("R", ("no-ident",), None, "do not ask the client's IDENT server (the default)"),
    Option("r", ("ident",), None, "ask it", alternative=True),
    Option("P", ("no-paranoid",), None, "do not check names forward (the default)"),
    Option("p", ("paranoid",), None, "drop a name whose addresses do not include the client's", alternative=True),
    Option("l", ("local-name",), "localname", "set `TCPLOCALHOST` to this instead of looking it up"),
    Option("B", ("banner",), "banner", "write this to the client, in clear, first of all"),
    Option(
        "t",
        ("timeout",),
        "timeout",
        "refuse a client (99) whose lookups take longer than this many milliseconds; 0 is never (the default)",
    ),
    *RULES_OPTIONS,
)
SYNOPSIS = Synopsis(
    "s6-tcpserver-access",
    (
        Option(
            "v",
            ("verbosity",),
            "verbosity",
            "0: say what is fatal. 1: also who is allowed (the default). 2: also who is denied",
        ),
        *ACCESS_OPTIONS,
        LOG_FORMAT,
    ),
    "prog...",
)


def stage(given: Given, runtime: Runtime) -> Access:
    """Make the stage.  Raises UsageError."""
    lookups = Lookups(
        names=not given.flag("H"),
        hosts=given.flag("h"),
        paranoid=given.flag("p"),
        user=given.flag("r"),
        strict=given.flag("w"),
        timeout_ms=given.number("t", 0),
    )
    return Access(
        rules=rule_source(given, runtime.long_lived),
        verbosity=given.number("v", 1),
        lookups=lookups,
        local_name=given.value("l"),
        banner=given.value("B", b""),
        nodelay=given.flag("D"),
        helper=runtime.lookup_helper(),
    )


def rule_source(given: Given, long_lived: bool) -> Rules | None:
    """Return the rules that -i or -x names, whichever counts, if any."""
    file, directory = given.value("x"), given.value("i")
    if file is not None:
        return CdbSource(file, private=long_lived)
    return None if directory is None else DirectorySource(directory)


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
