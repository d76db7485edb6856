"""The long-lived server behind s6-tcpserverd, s6-tcpserver and s6-tlsserver."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s6tls.cli.frame import chain
from s6tls.cli.frame.options import Option, UsageError, number
from s6tls.helper.helper import Outpost
from s6tls.posix.process import default_signals, keep_from_programs, redirect_to_null
from s6tls.posix.reactor import Reactor
from s6tls.ucspi import systemd
from s6tls.ucspi.image import Refused
from s6tls.ucspi.log import log_refusal
from s6tls.ucspi.superserver import Limits, Supervisor

if TYPE_CHECKING:
    from s6tls.tls.pools import EnginePools

_MOST_CONNECTIONS = 16384
_LONGEST_DRAIN = 7 * 24 * 3600 * 1000
LIMIT_OPTIONS = (
    Option("1", ("notify",), None, "write the port to stdout when clients are accepted, then close it"),
    Option("c", ("global-max-connections",), "maxconn", "serve at most this many clients at once (40)"),
    Option("C", ("local-max-connections",), "localmaxconn", "serve at most this many from one address (40)"),
    Option("", ("drain",), "milliseconds", "on SIGTERM, let connections finish for so long (0: exit at once)"),
)
ISOLATION = Option(
    "",
    ("isolation",),
    "connection|worker",
    "a process for each TLS session (connection, the default), or a few that share them (worker)",
)


class Server:
    """The long-lived server: its chain, and the surroundings that the chain's stages share."""

    long_lived = True

    def __init__(self, argv: Sequence[bytes], isolation: bytes = b"connection") -> None:
        """Read the chain in `argv`.  Raises UsageError."""
        if isolation not in (b"connection", b"worker"):
            raise UsageError("--isolation is either connection or worker")
        self._isolation = isolation.decode()
        self._reactor = Reactor()
        self._pools: EnginePools | None = None
        self._outpost: Outpost | None = None
        self._stages, self._words = chain.parse(argv, self)

    def tls_carrier(self) -> object:
        """Sessions live in processes that outlive one connection."""
        if self._pools is None:
            from s6tls.tls.pool import Isolation
            from s6tls.tls.pools import EnginePools

            self._pools = EnginePools(self._reactor, Isolation(self._isolation))
        return self._pools

    def outpost(self) -> Outpost:
        """One outpost serves all connections."""
        if self._outpost is None:
            self._outpost = Outpost(self._reactor)
        return self._outpost

    def serve(
        self, listener: socket.socket, env: dict[bytes, bytes], bounds: Limits, verbosity: int, announced: bool
    ) -> int:
        """Serve a listening socket until told to stop; return the exit code.

        Programs start with `env`.  `announced` writes the port to stdout when clients are accepted.
        """
        default_signals()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a logger that goes away must not take the server along
        keep_from_programs()
        redirect_to_null(0)
        for stage in self._stages:
            _prepare(stage, env, verbosity)
        reaped = self._pools.reaped if self._pools is not None else None

        if bounds.drain:
            systemd.adopt_orphans()
        programs = {name: value for name, value in env.items() if name not in systemd.VARIABLES}

        def ready() -> None:
            if announced:
                with contextlib.suppress(OSError):
                    os.write(1, b"%d\n" % listener.getsockname()[1])
            redirect_to_null(1)
            systemd.notify(env, "READY=1")

        Supervisor(
            self._reactor,
            listener,
            programs,
            self._stages,
            self._words,
            bounds,
            verbosity,
            reaped,
            stopping=lambda: systemd.notify(env, "STOPPING=1"),
            close=self._close,
        ).serve(ready)
        return 0

    def _close(self) -> None:
        """Let the processes that serve all connections end when they have nothing left to do."""
        if self._pools is not None:
            self._pools.close()
        if self._outpost is not None:
            self._outpost.close()


def limits(given: dict[str, bytes]) -> Limits:
    """Read -c, -C and --drain; 0 connections stand for 1, too many for the most there may be.  Raises UsageError."""
    total = min(max(1, number("-c", given.get("c", b"40"))), _MOST_CONNECTIONS)
    per_address = max(1, number("-C", given.get("C", b"40")))
    drain = number("--drain", given.get("drain", b"0"), 0, _LONGEST_DRAIN)
    return Limits(total, min(per_address, total), drain / 1000)


def _prepare(stage: object, env: dict[bytes, bytes], verbosity: int) -> None:
    """Let a stage get ready ahead of the first client; what fails now may still be set right by a rule."""
    prepare = getattr(stage, "prepare", None)
    if prepare is not None:
        try:
            prepare(env)
        except Refused as refused:
            if verbosity >= 1:
                refused.kind = "warning"
                log_refusal(refused)
