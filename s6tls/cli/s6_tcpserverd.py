"""s6-tcpserverd: accept connections on the listening socket that is stdin."""

from __future__ import annotations

import os
import socket
import stat
from typing import NoReturn

from s6tls.cli.frame.options import JAIL, Option, Synopsis
from s6tls.cli.frame.program import Failure, heed_log_format, run, unable_to
from s6tls.cli.frame.service import ISOLATION, LIMIT_OPTIONS, LongLived, limits
from s6tls.cli.frame.status import Asked
from s6tls.posix.environment import initial_environment
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi import listen

OPTIONS = (
    Option(
        "v", ("verbosity",), "verbosity", "0: say what is fatal. 1: also warnings (the default). 2: also every client"
    ),
    *LIMIT_OPTIONS,
    ISOLATION,
    JAIL,
)
SYNOPSIS = Synopsis("s6-tcpserverd", OPTIONS, "prog...")


def older(program: str) -> Synopsis:
    """Return the synopsis of s6-tcpserverd's older form for one address family."""
    return Synopsis(program, OPTIONS, "prog...")


def body(argv: list[bytes], synopsis: Synopsis = SYNOPSIS, family: int | None = None) -> int:
    """Serve until told to stop; a socket that is not of `family`, if given, is refused."""
    given = synopsis.read(argv)
    heed_log_format(given)
    server = LongLived(
        given.rest,
        given.choice("isolation", "connection"),
        given.choice("jail", "best"),
        limits(given),
        given.number("v", 1),
        Asked.of(given, synopsis),
    )
    listener = _stdin()
    if family not in (None, listener.family):
        raise Failure(ExitCode.USAGE, "stdin is a socket of another address family")
    return server.serve(listener, initial_environment(), announced=given.flag("1"))


def _stdin() -> socket.socket:
    """Move the listening socket away from stdin.  Raises Failure."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise Failure(ExitCode.USAGE, "stdin is not a socket")
    try:
        with unable_to("use the socket on stdin"):
            return listen.inherited(os.dup(0))
    except ValueError as error:
        raise Failure(ExitCode.USAGE, f"stdin is {error}") from error


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
