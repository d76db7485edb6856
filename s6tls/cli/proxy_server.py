"""proxy-server: read a PROXY header and take the client that it names for ours."""

from __future__ import annotations

from typing import NoReturn

from s6tls.accessrules.text import shown
from s6tls.cli.frame.chain import Runtime, run_link
from s6tls.cli.frame.options import LOG_FORMAT, UNUSED_VERBOSITY, Given, Option, Synopsis, UsageError
from s6tls.stages.proxy import ProxyServer, Remember, parse_prefixes

TRUSTED = Option(
    "",
    ("trusted-proxies",),
    "prefix,...",
    "refuse (1) a connection from anybody outside these networks, before reading a byte of it",
)
SYNOPSIS = Synopsis(
    "proxy-server",
    (
        Option("1", ("only-v1",), None, "expect version 1, a line of text"),
        Option(
            "2",
            ("only-v2",),
            None,
            "expect version 2, a binary block. Without either, both are taken",
            alternative=True,
        ),
        Option(
            "t",
            ("timeout",),
            "timeout",
            "fail (111) when the whole header is not there after this many milliseconds; 0 is never. "
            "Default 30000 in a server, where it counts from acceptance; else 0",
        ),
        UNUSED_VERBOSITY,
        LOG_FORMAT,
        TRUSTED,
        Option(
            "",
            ("before-tlsd",),
            None,
            "keep what the header says about TLS until `--after-tlsd`, past the variables of our own TLS",
        ),
        Option("", ("after-tlsd",), None, "read nothing; set what `--before-tlsd` has kept", alternative=True),
    ),
    "prog...",
)


def stage(given: Given, runtime: Runtime) -> ProxyServer | Remember:
    """Make the stage.  Raises UsageError."""
    given.number("v", 1)
    if given.flag("after-tlsd"):
        return Remember()
    networks = given.value("trusted-proxies")
    try:
        trusted = None if networks is None else parse_prefixes(networks)
    except ValueError:
        raise UsageError(f"invalid list of networks: {shown(networks or b'')}") from None
    return ProxyServer(
        runtime.lookup_helper(),
        versions=tuple(version for version in (1, 2) if given.flag(str(version))) or (1, 2),
        timeout_ms=given.number("t", runtime.patience_ms),
        trusted=trusted,
        until_later=given.flag("before-tlsd"),
    )


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
