"""proxy-server: read a PROXY header and take the client that it names for ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from s6tls.accessrules.text import shown
from s6tls.cli.frame.chain import Surroundings, run_link
from s6tls.cli.frame.options import Option, Synopsis, UsageError, in_force, number
from s6tls.stages.proxy import ProxyServer, Remember, parse_prefixes

TRUSTED = Option("", ("trusted-proxies",), "prefix,...", "refuse a PROXY header from anybody outside these networks")
SYNOPSIS = Synopsis(
    "proxy-server",
    (
        Option("1", ("only-v1",), None, "expect version 1 of the protocol, a line of text"),
        Option("2", ("only-v2",), None, "expect version 2, a binary block", alternative=True),
        Option("t", ("timeout",), "timeout", "fail (111) when the header takes longer than this many milliseconds"),
        Option("v", ("verbosity",), "verbosity", "accepted for the reference's sake"),
        TRUSTED,
        Option("", ("before-tlsd",), None, "keep what the header says about TLS until --after-tlsd"),
        Option("", ("after-tlsd",), None, "read no header; set what --before-tlsd has kept", alternative=True),
    ),
    "prog...",
)


def stage(options: Sequence[tuple[str, bytes]], surroundings: Surroundings) -> ProxyServer | Remember:
    """Make the stage.  Raises UsageError."""
    given = in_force(SYNOPSIS.options, options)
    number("-v", given.get("v", b"1"))
    if "after-tlsd" in given:
        return Remember()
    trusted = None
    if "trusted-proxies" in given:
        try:
            trusted = parse_prefixes(given["trusted-proxies"])
        except ValueError:
            raise UsageError(f"invalid list of networks: {shown(given['trusted-proxies'])}") from None
    return ProxyServer(
        surroundings.outpost(),
        versions=tuple(version for version in (1, 2) if str(version) in given) or (1, 2),
        timeout=number("-t", given.get("t", b"0")),
        trusted=trusted,
        until_later="before-tlsd" in given,
    )


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
