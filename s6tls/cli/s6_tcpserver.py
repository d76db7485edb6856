"""s6-tcpserver: bind, drop privileges, serve."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import NoReturn

from s6tls.accessrules import AddressError
from s6tls.accessrules.keys import parse_address
from s6tls.accessrules.text import shown
from s6tls.cli import s6_applyuidgid
from s6tls.cli.frame.options import JAIL, Given, Option, Synopsis, UsageError
from s6tls.cli.frame.program import Failure, heed_log_format, run, unable_to
from s6tls.cli.frame.service import ISOLATION, LIMIT_OPTIONS, LongLived, limits
from s6tls.cli.frame.status import Asked
from s6tls.cli.s6_tcpserver_socketbinder import BACKLOG, backlog, bind, port_number
from s6tls.posix.environment import initial_environment
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.identity import BadIdentity, why_not
from s6tls.stages.applyuidgid import ApplyUidGid
from s6tls.ucspi import systemd
from s6tls.ucspi.image import Image
from s6tls.ucspi.listen import Binding, endpoint

QUIET = Option("q", ("quiet",), None, "say only what is fatal")
NORMAL = Option("Q", ("normally-verbose",), None, "say also what is wrong (the default)", alternative=True)
VERBOSE = Option("v", ("verbose",), None, "say also what each client does", alternative=True)
FAMILY_OPTIONS = (
    Option("4", (), None, "refuse an address that is not of IPv4 (an older option)"),
    Option("6", (), None, "refuse an address that is not of IPv6 (an older option)", alternative=True),
)
IDENTITY_OPTIONS = tuple(
    replace(option, help=f"{option.help}, and remove these") if option.name == "U" else option
    for option in s6_applyuidgid.IDENTITY_OPTIONS
)
CHECK = Option(
    "",
    ("check",),
    None,
    "do what a start does, but bind nothing and serve nobody; say what was read, and what is wrong. "
    "See [s6-tlsserver](s6-tlsserver.md#check)",
)
OPTIONS = (
    QUIET,
    NORMAL,
    VERBOSE,
    Option("d", (), None, "allow binding while connections of an earlier server linger (the default)"),
    Option("D", (), None, "do not allow it", alternative=True),
    *LIMIT_OPTIONS,
    BACKLOG,
    *IDENTITY_OPTIONS,
    CHECK,
)
SYNOPSIS = Synopsis("s6-tcpserver", (*OPTIONS, *FAMILY_OPTIONS, ISOLATION, JAIL), "ip port prog...")


def verbosity(given: Given) -> int:
    """Return what the last of -q, -Q and -v says."""
    return 0 if given.flag("q") else 2 if given.flag("v") else 1


def listening_socket(given: Given, family: str | None, *, reuse: bool) -> socket.socket:
    """Take the socket that a service manager hands over, or bind and listen.

    `family` is -4, -6 or None: the family that the address must be of.  Raises UsageError, Failure.
    """
    ip, port = given.words
    try:
        with unable_to("use the socket handed over on descriptor 3"):
            inherited = systemd.listen_fds(os.environb)
    except ValueError as error:
        raise Failure(ExitCode.USAGE, f"unable to use what is handed over on descriptor 3: {error}") from error
    if inherited is not None:
        return _checked(inherited, ip, port)
    return bind(address(given, family, reuse=reuse))


def address(given: Given, family: str | None, *, reuse: bool) -> Binding:
    """Read what to bind to.  Raises UsageError."""
    ip, port = given.words
    if family == ("4" if b":" in ip else "6"):
        raise UsageError(f"the address is not of the family asked for: {shown(ip)}")
    try:
        parse_address(ip)
    except AddressError:
        raise UsageError(f"invalid IP address: {shown(ip)}") from None
    return Binding(ip, port_number(port), backlog(given), reuse)


def check_address(given: Given, family: str | None) -> None:
    """Read what would be bound to; ``-`` stands for a socket that a manager hands over.  Raises UsageError."""
    if b"-" not in given.words:
        address(given, family, reuse=True)


def check(server: LongLived, env: dict[bytes, bytes]) -> int:
    """Do what --check says; return the exit code.  Raises StageExit."""
    from s6tls.cli import check

    return check.check(server, env)


def _checked(inherited: socket.socket, ip: bytes, port: bytes) -> socket.socket:
    """Return a socket that is handed over, if it is bound to what the command line says; ``-`` leaves it open."""
    bound_ip, bound_port = endpoint(inherited.getsockname())
    if ip not in (b"-", bound_ip.encode()) or port not in (b"-", b"%d" % bound_port):
        raise Failure(ExitCode.USAGE, f"the socket handed over is bound to ip {bound_ip} port {bound_port}")
    return inherited


def older(program: str) -> Synopsis:
    """Return the synopsis of s6-tcpserver's older form for one address family."""
    return Synopsis(program, (*OPTIONS, ISOLATION, JAIL), "ip port prog...")


def body(argv: list[bytes], synopsis: Synopsis = SYNOPSIS, family: str | None = None) -> int:
    """Serve until told to stop; `family` is the option that stands for an older program's name.

    -U stands for s6-applyuidgid -Uz: programs do not see the variables that it read.
    """
    given = synopsis.read(argv)
    heed_log_format(given)
    server = LongLived(
        given.rest,
        given.choice("isolation", "connection"),
        given.choice("jail", "best"),
        limits(given),
        verbosity(given),
        Asked.of(given, synopsis),
        only_checks=given.flag("check"),
    )
    drop = s6_applyuidgid.apply_ids(given, unexport=given.flag("U"))
    if given.flag("check"):
        check_address(given, family or given.last("4", "6"))
        return check(server, drop_privileges(drop))
    listener = listening_socket(given, family or given.last("4", "6"), reuse=not given.flag("D"))
    env = drop_privileges(drop)
    return server.serve(listener, env, announced=given.flag("1"))


def drop_privileges(stage: ApplyUidGid) -> dict[bytes, bytes]:
    """Take the stage's ids, for good; return the environment that it leaves.  Raises Failure, StageExit."""
    image = Image(initial_environment(), [])
    stage.apply(image)
    if image.identity is not None:
        try:
            image.identity.take()
        except (OSError, BadIdentity) as error:
            raise Failure(ExitCode.SYSTEM, f"unable to drop privileges: {why_not(error)}") from error
    return image.env


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
