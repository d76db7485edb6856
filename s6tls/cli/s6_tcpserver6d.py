"""s6-tcpserver6d: s6-tcpserverd for IPv6, by its name before s6-networking 2.6."""

from __future__ import annotations

import socket
from typing import NoReturn

from s6tls.cli import s6_tcpserverd
from s6tls.cli.frame.program import run

SYNOPSIS = s6_tcpserverd.older("s6-tcpserver6d")


def body(argv: list[bytes]) -> int:
    """Serve until told to stop."""
    return s6_tcpserverd.body(argv, SYNOPSIS, socket.AF_INET6)


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
