"""s6-tcpserverd: accept connections on the listening socket that is stdin."""

from __future__ import annotations

from typing import NoReturn

from s6tls.cli.options import Option, Synopsis, number
from s6tls.cli.program import run
from s6tls.cli.service import ISOLATION, LIMIT_OPTIONS, Server, limits, serve

SYNOPSIS = Synopsis(
    "s6-tcpserverd",
    (
        Option(
            "v",
            ("verbosity",),
            "verbosity",
            "0 fatal errors, 1 also warnings (the default), 2 also every client",
        ),
        *LIMIT_OPTIONS,
        ISOLATION,
    ),
    "prog...",
)


def body(argv: list[bytes]) -> int:
    """Serve until told to stop."""
    options, words = SYNOPSIS.parse(argv)
    given = dict(options)
    verbosity = number("-v", given.get("v", b"1"))
    server = Server(given.get("isolation", b"connection"))
    return serve(0, server, words, limits(given), verbosity, announced="1" in given)


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
