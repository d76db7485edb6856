"""s6-tcpserver: bind, drop privileges, serve."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NoReturn

from s6tls.accessrules.errors import shown
from s6tls.cli import s6_applyuidgid
from s6tls.cli.options import Option, Synopsis, UsageError
from s6tls.cli.program import Failure, run
from s6tls.cli.s6_tcpserver_socketbinder import BACKLOG, bind, binding
from s6tls.cli.service import ISOLATION, LIMIT_OPTIONS, Server, limits
from s6tls.ucspi.identity import ApplyUidGid, BadIdentity
from s6tls.ucspi.image import Image
from s6tls.ucspi.process import initial_environment

VERBOSITY_OPTIONS = (
    Option("q", ("quiet",), None, "say only what is fatal"),
    Option("Q", ("normally-verbose",), None, "say also what is wrong (the default)", alternative=True),
    Option("v", ("verbose",), None, "say also what each client does", alternative=True),
)
FAMILY_OPTIONS = (
    Option("4", (), None, "bind to an IPv4 address only (an older option)"),
    Option("6", (), None, "bind to an IPv6 address only (an older option)", alternative=True),
)
SYNOPSIS = Synopsis(
    "s6-tcpserver",
    (
        *VERBOSITY_OPTIONS,
        Option("d", (), None, "allow instant rebinding (the default)"),
        Option("D", (), None, "do not allow it", alternative=True),
        *LIMIT_OPTIONS,
        BACKLOG,
        *s6_applyuidgid.IDENTITY_OPTIONS,
        *FAMILY_OPTIONS,
        ISOLATION,
    ),
    "ip port prog...",
)
_UNEXPORT = (("z", b""),)  # -U stands for s6-applyuidgid -Uz: programs do not see the variables that it read


def verbosity(options: Sequence[tuple[str, bytes]]) -> int:
    """Return what the last of -q, -Q and -v says."""
    return ([{"q": 0, "Q": 1, "v": 2}[name] for name, _ in options if name in "qQv"] or [1])[-1]


def listening_socket(options: Sequence[tuple[str, bytes]], ip: bytes, port: bytes) -> socket.socket:
    """Bind and listen.  Raises UsageError, Failure."""
    families = {name for name, _ in options if name in "46"}
    if (b":" in ip and "4" in families) or (b":" not in ip and "6" in families):
        raise UsageError(f"the address is not of the family asked for: {shown(ip)}")
    return bind(binding([pair for pair in options if pair[0] in "dDb"], ip, port))


def body(argv: list[bytes]) -> int:
    """Serve until told to stop."""
    options, words = SYNOPSIS.parse(argv)
    if len(words) < 3:
        raise UsageError
    given = dict(options)
    bounds = limits(given)
    server = Server(words[2:], given.get("isolation", b"connection"))
    drop = s6_applyuidgid.stage([*_UNEXPORT, *options] if "U" in given else options, server)
    listener = listening_socket(options, words[0], words[1])
    env = drop_privileges(drop)
    return server.serve(listener, env, bounds, verbosity(options), announced="1" in given)


def drop_privileges(stage: ApplyUidGid) -> dict[bytes, bytes]:
    """Take the ids that the stage gives, for good; return the environment that it leaves.  Raises Failure, Refused."""
    image = Image(initial_environment(), [])
    stage.apply(image)
    if image.identity is not None:
        try:
            image.identity.take()
        except (OSError, BadIdentity) as error:
            raise Failure(111, f"unable to drop privileges: {error}") from error
    return image.env


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
