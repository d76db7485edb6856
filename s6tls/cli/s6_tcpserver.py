"""s6-tcpserver: bind, drop privileges, serve."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import NoReturn

from s6tls.accessrules.text import shown
from s6tls.cli import s6_applyuidgid
from s6tls.cli.frame.options import Option, Synopsis, UsageError, in_force
from s6tls.cli.frame.program import USAGE, Failure, run, unable_to
from s6tls.cli.frame.service import ISOLATION, LIMIT_OPTIONS, Server, limits
from s6tls.cli.s6_tcpserver_socketbinder import BACKLOG, bind, binding
from s6tls.posix.identity import BadIdentity
from s6tls.posix.process import initial_environment
from s6tls.stages.applyuidgid import ApplyUidGid
from s6tls.ucspi import systemd
from s6tls.ucspi.image import Image
from s6tls.ucspi.listen import endpoint

VERBOSITY_OPTIONS = (
    Option("q", ("quiet",), None, "say only what is fatal"),
    Option("Q", ("normally-verbose",), None, "say also what is wrong (the default)", alternative=True),
    Option("v", ("verbose",), None, "say also what each client does", alternative=True),
)
FAMILY_OPTIONS = (
    Option("4", (), None, "bind to an IPv4 address only (an older option)"),
    Option("6", (), None, "bind to an IPv6 address only (an older option)", alternative=True),
)
OPTIONS = (
    *VERBOSITY_OPTIONS,
    Option("d", (), None, "allow instant rebinding (the default)"),
    Option("D", (), None, "do not allow it", alternative=True),
    *LIMIT_OPTIONS,
    BACKLOG,
    *s6_applyuidgid.IDENTITY_OPTIONS,
)
SYNOPSIS = Synopsis("s6-tcpserver", (*OPTIONS, *FAMILY_OPTIONS, ISOLATION), "ip port prog...")
_UNEXPORT = (("z", b""),)  # -U stands for s6-applyuidgid -Uz: programs do not see the variables that it read


def verbosity(options: Sequence[tuple[str, bytes]]) -> int:
    """Return what the last of -q, -Q and -v says."""
    given = in_force(VERBOSITY_OPTIONS, options)
    return 0 if "q" in given else 2 if "v" in given else 1


def listening_socket(options: Sequence[tuple[str, bytes]], ip: bytes, port: bytes) -> socket.socket:
    """Take the socket that a service manager hands over, or bind and listen.  Raises UsageError, Failure."""
    try:
        with unable_to("use the socket handed over on descriptor 3"):
            inherited = systemd.handed_over(os.environb)
    except ValueError as error:
        raise Failure(USAGE, f"unable to use what is handed over on descriptor 3: {error}") from error
    if inherited is not None:
        return _checked(inherited, ip, port)
    if ("4" if b":" in ip else "6") in in_force(FAMILY_OPTIONS, options):
        raise UsageError(f"the address is not of the family asked for: {shown(ip)}")
    return bind(binding([pair for pair in options if pair[0] in "dDb"], ip, port))


def _checked(inherited: socket.socket, ip: bytes, port: bytes) -> socket.socket:
    """Return a socket that is handed over, if it is bound to what the command line says; ``-`` leaves it open."""
    bound_ip, bound_port = endpoint(inherited.getsockname())
    if ip not in (b"-", bound_ip.encode()) or port not in (b"-", b"%d" % bound_port):
        raise Failure(USAGE, f"the socket handed over is bound to ip {bound_ip} port {bound_port}")
    return inherited


def older(program: str) -> Synopsis:
    """Return the synopsis of s6-tcpserver's older form for one address family."""
    return Synopsis(program, (*OPTIONS, ISOLATION), "ip port prog...")


def body(argv: list[bytes], synopsis: Synopsis = SYNOPSIS, family: str = "") -> int:
    """Serve until told to stop; `family` is the option that stands for an older program's name."""
    options, words = synopsis.parse(argv)
    options += [(family, b"")] if family else []
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
