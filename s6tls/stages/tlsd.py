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

from s6tls.helper.reply import RefusalReply, Reply
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.fdpass import put_away, take_out
from s6tls.tls.account import HANDSHAKE_TOO_LONG, Account, refusal
from s6tls.tls.credentials import (
    BAD_HANDSHAKE,
    SESSION_VARIABLES,
    TLS_PREFIXES,
    TLS_VARIABLES,
    SessionOptions,
    TlsParameters,
)
from s6tls.tls.ends import Descriptors
from s6tls.ucspi.image import Deadline, Image, StageExit

_SYSTEM = ExitCode.SYSTEM
_PIPE_BYTES = 2**18


class EngineStarter(Protocol):
    """Puts an engine behind a connection's descriptors."""

    @property
    def gives_accounts(self) -> bool:
        """Whether the engine tells of the session to its end: on `fds.account`, or after its reply on `fds.notify`."""

    def prepare(self, parameters: TlsParameters) -> None:
        """Get ready for connections with these parameters.  Raises StageExit."""

    def submit(self, parameters: TlsParameters, fds: Descriptors, peer: str) -> Callable[[], int]:
        """Hand a connection to an engine; return what tells its exit code if it ends without a word on `fds.notify`.

        `peer` names the client in log lines.  Raises StageExit; the descriptors are then still the caller's.
        """


class Tlsd:
    """Give the next program a TLS session.  `keep` leaves key and certificate variables in its environment."""

    program = "s6-tlsd"

    def __init__(self, options: SessionOptions, keep: bool, starter: EngineStarter) -> None:
        self._options, self._keep, self._starter = options, keep, starter

    def prepare(self, env: dict[bytes, bytes]) -> None:
        """Get ready for clients that no rule gives other parameters.  Raises StageExit."""
        self._starter.prepare(TlsParameters.from_environment(env, self._options))

    def apply(self, image: Image) -> Reply:
        """Put an engine between the network and `image`.  Raises StageExit (96, 111)."""
        parameters = TlsParameters.from_environment(image.env, self._options)
        with contextlib.ExitStack() as unless_submitted:
            try:
                ends = pipes(3, unless_submitted)
            except OSError as error:
                raise StageExit(self.program, _SYSTEM, f"unable to make pipes: {error.strerror}") from error
            (app_in, to_app), (from_app, app_out), (notified, notify) = ends
            widen(to_app)
            fds = Descriptors(image.stdin, image.stdout, from_app, to_app, notify)
            client = peer(image.env)
            gone = self._starter.submit(parameters, fds, client)
            unless_submitted.pop_all()
        image.stdin, image.stdout = app_in, app_out
        holder = self._put_away(image)
        told: dict[bytes, bytes] = {}

        def established(variables: dict[bytes, bytes]) -> None:
            if holder is not None:
                image.stdin, image.stdout = take_out(holder, 2)
            if not self._keep:
                unset_parameters(image)
            image.unset(SESSION_VARIABLES)
            image.env.update(variables)
            told.update(variables)

        def keep(fd: int, said: bytes) -> None:
            image.session = Account(fd, said, client, told)

        return Reply(
            notified,
            self.program,
            SESSION_VARIABLES,
            established,
            gone,
            refuse=lambda refused: refusal(refused, client),
            keep=keep if self._starter.gives_accounts else None,
            deadline=self._deadline(image, client),
        )

    def _put_away(self, image: Image) -> int | None:
        """Have one descriptor open during a handshake where there are many clients: None if the system says no."""
        if self._starter.gives_accounts:
            with contextlib.suppress(OSError):
                image.stdin = image.stdout = put_away((image.stdin, image.stdout))
                return image.stdin
        return None

    def _deadline(self, image: Image, client: str) -> Deadline | None:
        if not self._options.handshake_timeout_ms:
            return None
        late = RefusalReply(BAD_HANDSHAKE, HANDSHAKE_TOO_LONG)
        return Deadline(image.since + self._options.handshake_timeout_ms / 1000, refusal(late, client))


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
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def peer(env: dict[bytes, bytes]) -> str:
    """Return how log lines name the client: ADDRESS_PORT."""
    proto = env.get(b"PROTO", b"")
    address, port = env.get(proto + b"REMOTEIP", b""), env.get(proto + b"REMOTEPORT", b"")
    return (address + b"_" + port).decode("ascii", "backslashreplace") if address else ""
