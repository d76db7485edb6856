"""s6-tcpserver6: s6-tcpserver for IPv6, by its name before s6-networking 2.6."""

from __future__ import annotations

from typing import NoReturn

from s6tls.cli import s6_tcpserver
from s6tls.cli.frame.program import run

SYNOPSIS = s6_tcpserver.older("s6-tcpserver6")


def body(argv: list[bytes]) -> int:
    """Serve until told to stop."""
    return s6_tcpserver.body(argv, SYNOPSIS, "6")


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
