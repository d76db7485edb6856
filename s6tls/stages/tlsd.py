"""The stage of s6-tlsd: TLS between the network and the next program.

The next program gets pipes instead of the network.  An engine, in a process of its
own, stands between them.  The stage is done when the engine reports the handshake done.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from typing import Protocol

from s6tls.helper.reply import Reply
from s6tls.posix.exitcodes import ExitCode
from s6tls.tls.credentials import SESSION_VARIABLES, TLS_PREFIXES, TLS_VARIABLES, Options, Sources
from s6tls.tls.ends import Descriptors
from s6tls.ucspi.image import Image, StageExit

_SYSTEM = ExitCode.SYSTEM
_WIDE = 2**18


class Carrier(Protocol):
    """Whatever puts an engine behind a session's descriptors, and then owns them."""

    def prepare(self, sources: Sources, options: Options) -> None:
        """Get ready for connections with these parameters.  Raises StageExit."""

    def carry(self, sources: Sources, options: Options, fds: Descriptors, peer: str) -> Callable[[], int]:
        """Start an engine; return what tells its exit code once it has ended without a word on `fds.notify`.

        Raises StageExit, and then does not own the descriptors.
        """


class Tlsd:
    """Give the next program a TLS session.  `keep` leaves key and certificate variables in its environment."""

    program = "s6-tlsd"

    def __init__(self, options: Options, keep: bool, carrier: Carrier) -> None:
        self._options, self._keep, self._carrier = options, keep, carrier

    def prepare(self, env: dict[bytes, bytes]) -> None:
        """Get ready for clients that no rule gives other parameters.  Raises StageExit."""
        self._carrier.prepare(Sources.from_environment(env, self._options), self._options)

    def apply(self, image: Image) -> Reply:
        """Put an engine between the network and `image`.  Raises StageExit (96, 111)."""
        sources = Sources.from_environment(image.env, self._options)
        with contextlib.ExitStack() as unless_carried:
            try:
                ends = pipes(3, unless_carried)
            except OSError as error:
                raise StageExit(self.program, _SYSTEM, f"unable to make pipes: {error.strerror}") from error
            (app_in, to_app), (from_app, app_out), (notified, notify) = ends
            widen(to_app)
            fds = Descriptors(image.stdin, image.stdout, from_app, to_app, notify)
            gone = self._carrier.carry(sources, self._options, fds, peer(image.env))
            unless_carried.pop_all()
        image.stdin, image.stdout = app_in, app_out

        def established(variables: dict[bytes, bytes]) -> None:
            if not self._keep:
                unset_parameters(image)
            image.unset(SESSION_VARIABLES)
            image.env.update(variables)

        return Reply(notified, self.program, SESSION_VARIABLES, established, gone)


def unset_parameters(image: Image) -> None:
    """Remove what names keys, certificates and the engine's ids."""
    image.unset(TLS_VARIABLES)
    image.unset([name for name in image.env if name.startswith(TLS_PREFIXES)])


def pipes(count: int, cleanup: contextlib.ExitStack) -> list[tuple[int, int]]:
    """Return the ends of new pipes, which `cleanup` is told to close.  Raises OSError."""
    made = []
    for _ in range(count):
        pipe = os.pipe2(os.O_CLOEXEC)
        for fd in pipe:
            cleanup.callback(os.close, fd)
        made.append(pipe)
    return made


def widen(pipe: int) -> None:
    """Let an engine run ahead of its program: fewer turns for the same bytes (a tenth faster uploads)."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _WIDE)


def peer(env: dict[bytes, bytes]) -> str:
    """Return how log lines name the client: ADDRESS_PORT."""
    proto = env.get(b"PROTO", b"")
    address, port = env.get(proto + b"REMOTEIP", b""), env.get(proto + b"REMOTEPORT", b"")
    return (address + b"_" + port).decode("ascii", "backslashreplace") if address else ""
