"""s6-tcpserverd: accept connections on the listening socket that is stdin."""

from __future__ import annotations

import os
import socket
import stat
from typing import NoReturn

from s6tls.cli.frame.options import Option, Synopsis, number
from s6tls.cli.frame.program import USAGE, Failure, run, unable_to
from s6tls.cli.frame.service import ISOLATION, LIMIT_OPTIONS, Server, limits
from s6tls.posix.process import initial_environment
from s6tls.ucspi import listen

OPTIONS = (
    Option("v", ("verbosity",), "verbosity", "0 fatal errors, 1 also warnings (the default), 2 also every client"),
    *LIMIT_OPTIONS,
    ISOLATION,
)
SYNOPSIS = Synopsis("s6-tcpserverd", OPTIONS, "prog...")


def older(program: str) -> Synopsis:
    """Return the synopsis of s6-tcpserverd's older form for one address family."""
    return Synopsis(program, OPTIONS, "prog...")


def body(argv: list[bytes], synopsis: Synopsis = SYNOPSIS, family: int | None = None) -> int:
    """Serve until told to stop; a socket that is not of `family`, if given, is refused."""
    options, words = synopsis.parse(argv)
    given = dict(options)
    verbosity = number("-v", given.get("v", b"1"))
    server = Server(words, given.get("isolation", b"connection"))
    listener = _stdin()
    if family not in (None, listener.family):
        raise Failure(USAGE, "stdin is a socket of another address family")
    return server.serve(listener, initial_environment(), limits(given), verbosity, announced="1" in given)


def _stdin() -> socket.socket:
    """Move the listening socket away from stdin.  Raises Failure."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise Failure(USAGE, "stdin is not a socket")
    try:
        with unable_to("use the socket on stdin"):
            return listen.inherited(os.dup(0))
    except ValueError as error:
        raise Failure(USAGE, f"stdin is {error}") from error


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
