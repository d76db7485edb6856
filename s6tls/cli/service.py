"""The long-lived server behind s6-tcpserverd, s6-tcpserver and s6-tlsserver."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s6tls.cli import chain
from s6tls.cli.options import Option, UsageError, number
from s6tls.cli.program import Failure, unable_to
from s6tls.ucspi import listen
from s6tls.ucspi.image import Refused
from s6tls.ucspi.log import log_refusal
from s6tls.ucspi.process import default_signals, initial_environment, keep_from_programs
from s6tls.ucspi.reactor import Reactor
from s6tls.ucspi.supervisor import Limits, Supervisor, announce

if TYPE_CHECKING:
    from s6tls.tls.hosts import Hosts

_MOST_CONNECTIONS = 16384
LIMIT_OPTIONS = (
    Option("1", ("notify",), None, "write the port to stdout when clients are accepted, then close it"),
    Option("c", ("global-max-connections",), "maxconn", "serve at most this many clients at once (40)"),
    Option("C", ("local-max-connections",), "localmaxconn", "serve at most this many from one address (40)"),
)
ISOLATION = Option(
    "",
    ("isolation",),
    "connection|worker",
    "a process for each TLS session (connection, the default), or a few that share them (worker)",
)


class Server:
    """The surroundings of a chain in the long-lived server: what its stages share."""

    long_lived = True

    def __init__(self, isolation: bytes = b"connection") -> None:
        if isolation not in (b"connection", b"worker"):
            raise UsageError("--isolation is either connection or worker")
        self._isolation = isolation.decode()
        self.reactor = Reactor()
        self.hosts: Hosts | None = None

    def tls_carrier(self) -> object:
        """Sessions live in processes that outlive one connection."""
        if self.hosts is None:
            from s6tls.tls.host import Isolation
            from s6tls.tls.hosts import Hosts

            self.hosts = Hosts(self.reactor, Isolation(self._isolation))
        return self.hosts

    def reaped(self, pid: int, status: int) -> bool:
        """Tell whether a child that ended was one of ours."""
        return self.hosts is not None and self.hosts.reaped(pid, status)


def limits(given: dict[str, bytes]) -> Limits:
    """Read -c and -C.  Raises UsageError."""
    total = number("-c", given.get("c", b"40"), 1, _MOST_CONNECTIONS)
    per_address = number("-C", given.get("C", b"40"), 1, _MOST_CONNECTIONS)
    return Limits(total, min(per_address, total))


def serve(fd: int, server: Server, argv: Sequence[bytes], bounds: Limits, verbosity: int, announced: bool) -> int:
    """Serve the listening socket `fd` with the chain in `argv` until told to stop; return the exit code."""
    stages, words = chain.parse(argv, server)
    env = initial_environment()
    with unable_to("use the listening socket"):
        try:
            listener = listen.inherited(os.dup(fd))
        except ValueError as error:
            raise Failure(100, f"unable to use the listening socket: {error}") from error
    default_signals()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a logger that goes away must not take the server along
    keep_from_programs()
    _occupy(0)
    for stage in stages:
        _prepare(stage, env)
    if announced:
        announce(listener.getsockname()[1])
    _occupy(1)
    Supervisor(server.reactor, listener, env, stages, words, bounds, verbosity, server.reaped).serve()
    return 0


def _prepare(stage: object, env: dict[bytes, bytes]) -> None:
    """Let a stage get ready ahead of the first client; what fails now may still be set right by a rule."""
    prepare = getattr(stage, "prepare", None)
    if prepare is not None:
        try:
            prepare(env)
        except Refused as refused:
            refused.kind = "warning"
            log_refusal(refused)


def _occupy(fd: int) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, fd)
    os.close(null)
