"""s6-tcpserver-socketbinder: bind a socket, listen, and run a program with it on stdin."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from s6tls.accessrules.text import shown
from s6tls.cli.frame.options import Option, Synopsis, UsageError, number
from s6tls.cli.frame.program import run, unable_to
from s6tls.posix.process import initial_environment
from s6tls.ucspi import listen
from s6tls.ucspi.image import Image
from s6tls.ucspi.spawn import execute

_LONGEST_BACKLOG = 2**31 - 1
BACKLOG = Option("b", ("backlog",), "backlog", "let this many clients wait in the kernel; 0 does not listen at all")
SYNOPSIS = Synopsis(
    "s6-tcpserver-socketbinder",
    (
        Option("d", ("reuse-address",), None, "allow instant rebinding (the default)"),
        Option("D", ("no-reuse-address",), None, "do not allow it", alternative=True),
        BACKLOG,
        Option("M", ("tcp",), None, "make a TCP socket (the default)"),
        Option("m", ("udp",), None, "make a UDP socket (use -b0 with it)", alternative=True),
        Option("B", ("block",), None, "make a blocking socket"),
    ),
    "ip port prog...",
)


def binding(options: Sequence[tuple[str, bytes]], ip: bytes, port: bytes) -> listen.Binding:
    """Read the words of a binding.  Raises UsageError."""
    wanted = listen.Binding(ip, number("port", port, 0, 65535))
    for name, value in options:
        if name in "dD":
            wanted = replace(wanted, reuse=name == "d")
        elif name == "b":
            wanted = replace(wanted, backlog=min(number("-b", value), _LONGEST_BACKLOG))
        elif name in "Mm":
            wanted = replace(wanted, datagram=name == "m")
        elif name == "B":
            wanted = replace(wanted, blocking=True)
    return wanted


def bind(wanted: listen.Binding) -> socket.socket:
    """Make the socket.  Raises UsageError, Failure."""
    try:
        with unable_to(f"bind to {shown(wanted.ip)} port {wanted.port}"):
            return listen.bind(wanted)
    except ValueError as error:
        raise UsageError(str(error)) from error


def body(argv: list[bytes]) -> NoReturn:
    """Bind, then become the program."""
    options, words = SYNOPSIS.parse(argv)
    if len(words) < 3:
        raise UsageError
    bound = bind(binding(options, words[0], words[1]))
    execute(Image(initial_environment(), words[2:], stdin=bound.fileno(), link=SYNOPSIS.program))


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
