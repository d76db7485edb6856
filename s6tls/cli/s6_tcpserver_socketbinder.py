"""s6-tcpserver-socketbinder: bind a socket, listen, and run a program with it on stdin."""

from __future__ import annotations

import socket
from typing import NoReturn

from s6tls.accessrules.text import shown
from s6tls.cli.frame.options import LOG_FORMAT, Given, Option, Synopsis, UsageError, number
from s6tls.cli.frame.program import heed_log_format, run, unable_to
from s6tls.posix.environment import initial_environment
from s6tls.ucspi import listen
from s6tls.ucspi.image import Image
from s6tls.ucspi.spawn import execute

_LONGEST_BACKLOG = 2**31 - 1
BACKLOG = Option(
    "b",
    ("backlog",),
    "backlog",
    "let this many clients wait in the kernel; 0 binds without listening. Default: as many as the system allows",
)
SYNOPSIS = Synopsis(
    "s6-tcpserver-socketbinder",
    (
        Option(
            "d", ("reuse-address",), None, "allow binding while connections of an earlier server linger (the default)"
        ),
        Option("D", ("no-reuse-address",), None, "do not allow it", alternative=True),
        BACKLOG,
        Option("M", ("tcp",), None, "a TCP socket (the default)"),
        Option("m", ("udp",), None, "a UDP socket; use `-b0` with it", alternative=True),
        Option("B", ("block",), None, "a blocking socket. Without it the socket is non-blocking"),
        LOG_FORMAT,
    ),
    "ip port prog...",
)


def port_number(word: bytes) -> int:
    """Read a port.  Raises UsageError."""
    return number("port", word, 0, 65535)


def backlog(given: Given) -> int:
    """Read -b.  Raises UsageError."""
    return min(given.number("b", socket.SOMAXCONN), _LONGEST_BACKLOG)


def bind(wanted: listen.Binding) -> socket.socket:
    """Make the socket.  Raises UsageError, Failure."""
    try:
        with unable_to(f"bind to {shown(wanted.ip)} port {wanted.port}"):
            return listen.bind(wanted)
    except ValueError as error:
        raise UsageError(str(error)) from error


def body(argv: list[bytes]) -> NoReturn:
    """Bind, then become the program."""
    given = SYNOPSIS.read(argv)
    heed_log_format(given)
    ip, port = given.words
    wanted = listen.Binding(
        ip,
        port_number(port),
        backlog(given),
        reuse=not given.flag("D"),
        datagram=given.flag("m"),
        blocking=given.flag("B"),
    )
    bound = bind(wanted)
    execute(Image(initial_environment(), given.rest, stdin=bound.fileno(), link=SYNOPSIS.program))


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
