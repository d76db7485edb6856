"""s6-tcpserver: bind, drop privileges, serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from s6tls.cli import s6_applyuidgid
from s6tls.cli.options import Option, Synopsis, UsageError
from s6tls.cli.program import Failure, run
from s6tls.cli.s6_tcpserver_socketbinder import BACKLOG, bind, binding
from s6tls.cli.service import ISOLATION, LIMIT_OPTIONS, Server, limits, serve
from s6tls.ucspi.identity import BadIdentity
from s6tls.ucspi.image import Image
from s6tls.ucspi.process import initial_environment

VERBOSITY_OPTIONS = (
    Option("q", ("quiet",), None, "say only what is fatal"),
    Option("Q", ("normally-verbose",), None, "say also what is wrong (the default)"),
    Option("v", ("verbose",), None, "say also what each client does"),
)
FAMILY_OPTIONS = (
    Option("4", (), None, "bind to an IPv4 address only (an older option)"),
    Option("6", (), None, "bind to an IPv6 address only (an older option)"),
)
SYNOPSIS = Synopsis(
    "s6-tcpserver",
    (
        *VERBOSITY_OPTIONS,
        Option("d", (), None, "allow instant rebinding (the default)"),
        Option("D", (), None, "do not allow it"),
        *LIMIT_OPTIONS,
        BACKLOG,
        *s6_applyuidgid.IDENTITY_OPTIONS,
        *FAMILY_OPTIONS,
        ISOLATION,
    ),
    "ip port prog...",
)


def verbosity(options: Sequence[tuple[str, bytes]]) -> int:
    """Return what the last of -q, -Q and -v says."""
    return ([{"q": 0, "Q": 1, "v": 2}[name] for name, _ in options if name in "qQv"] or [1])[-1]


def listening_socket(options: Sequence[tuple[str, bytes]], ip: bytes, port: bytes) -> int:
    """Bind and listen.  Raises UsageError, Failure."""
    families = {name for name, _ in options if name in "46"}
    if (b":" in ip and "4" in families) or (b":" not in ip and "6" in families):
        raise UsageError(f"the address is not of the family asked for: {ip.decode('ascii', 'backslashreplace')}")
    return bind(binding([pair for pair in options if pair[0] in "dDb"], ip, port))


def body(argv: list[bytes]) -> int:
    """Serve until told to stop."""
    options, words = SYNOPSIS.parse(argv)
    if len(words) < 3:
        raise UsageError
    given = dict(options)
    bounds = limits(given)
    server = Server(given.get("isolation", b"connection"))
    fd = listening_socket(options, words[0], words[1])
    drop_privileges([pair for pair in options if pair[0] in "ugGU"])
    return serve(fd, server, words[2:], bounds, verbosity(options), announced="1" in given)


def drop_privileges(options: Sequence[tuple[str, bytes]]) -> None:
    """Take the ids that the options name, for good.  Raises UsageError, Failure, Refused."""
    image = Image(initial_environment(), [])
    s6_applyuidgid.stage(options).apply(image)
    if image.identity is not None:
        try:
            image.identity.take()
        except (OSError, BadIdentity) as error:
            raise Failure(111, f"unable to drop privileges: {error}") from error


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
