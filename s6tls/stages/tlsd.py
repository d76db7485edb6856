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

from s6tls.helper.reply import Answers, RefusalReply, Reply
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.fdpass import put_away, take_out
from s6tls.tls.credentials import (
    BAD_HANDSHAKE,
    SESSION_VARIABLES,
    TLS_PREFIXES,
    TLS_VARIABLES,
    SessionOptions,
    TlsParameters,
)
from s6tls.tls.ends import Descriptors
from s6tls.tls.engines.account import HANDSHAKE_TOO_LONG, Account, refusal
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

    def expect_end(self, notified: int) -> None:
        """See that the engine which has `fds.notify` ends soon: its client is given up.  Raises OSError."""


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
                network = self._own(image.stdin, unless_submitted)
            except OSError as error:
                raise StageExit(self.program, _SYSTEM, f"unable to make pipes: {error.strerror}") from error
            (app_in, to_app), (from_app, app_out), (notified, notify) = ends
            widen(to_app)
            fds = Descriptors(image.stdin, image.stdout, from_app, to_app, notify)
            client = peer(image.env)
            gone = self._starter.submit(parameters, fds, client)
            unless_submitted.pop_all()
        image.stdin, image.stdout = app_in, app_out
        held = None if network is None else _Held.of(image, network)
        told: dict[bytes, bytes] = {}

        def established(variables: dict[bytes, bytes]) -> None:
            if held is not None:
                held.give_program()
            if not self._keep:
                unset_parameters(image)
            image.unset(SESSION_VARIABLES)
            image.env.update(variables)
            told.update(variables)

        def keep(fd: int, said: bytes) -> None:
            image.session = Account(fd, said, client, told, image.rule, self._options.silence_s)

        answers = Answers(
            established,
            gone,
            refuse=lambda refused: refusal(refused, client),
            keep=keep if self._starter.gives_accounts else None,
        )
        return Reply(notified, self.program, SESSION_VARIABLES, answers, self._deadline(image, client, held, notified))

    def _own(self, network: int, cleanup: contextlib.ExitStack) -> int | None:
        """Return a descriptor of the client's connection for a server to keep.  Raises OSError."""
        if not self._starter.gives_accounts:
            return None
        own = os.dup(network)
        cleanup.callback(os.close, own)
        return own

    def _deadline(self, image: Image, client: str, held: _Held | None, notified: int) -> Deadline | None:
        if not self._options.handshake_timeout_ms:
            return None

        def give_up() -> None:
            if held is not None:
                held.give_network()
            self._starter.expect_end(notified)

        late = refusal(RefusalReply(BAD_HANDSHAKE, HANDSHAKE_TOO_LONG), client)
        moment = image.since + self._options.handshake_timeout_ms / 1000
        return Deadline(moment, late, give_up)


class _Held:
    """What a server keeps of a connection during its handshake, in one descriptor: there may be many such clients.

    That is the ends of the program to come, and the network: the engine may not answer when the time is over.
    """

    def __init__(self, image: Image, holder: int) -> None:
        self._image, self._holder = image, holder

    @classmethod
    def of(cls, image: Image, network: int) -> _Held | None:
        """Put away what the image has, and `network`; if the system says no, the image keeps its own."""
        try:
            holder = put_away((image.stdin, image.stdout, network))
        except OSError:
            os.close(network)
            return None
        image.stdin = image.stdout = holder
        return cls(image, holder)

    def give_program(self) -> None:
        """Let the image have the program's ends again.  Raises OSError."""
        self._image.stdin, self._image.stdout, network = take_out(self._holder, 3)
        os.close(network)

    def give_network(self) -> None:
        """Let the image have the network, which is to end.  Raises OSError."""
        stdin, stdout, self._image.stdin = take_out(self._holder, 3)
        self._image.stdout = self._image.stdin
        os.close(stdin)
        os.close(stdout)


def unset_parameters(image: Image) -> None:
    """Remove what names keys, certificates and the engine's ids."""
    image.unset(TLS_VARIABLES)
    image.unset([name for name in image.env if name.startswith(TLS_PREFIXES)])


def pipes(count: int, cleanup: contextlib.ExitStack) -> list[tuple[int, int]]:
    """Return the ends of new pipes, which `cleanup` is told to close.  Raises OSError."""
    made: list[tuple[int, int]] = []
    cleanup.callback(_close_all, made)
    for _ in range(count):
        made.append(os.pipe2(os.O_CLOEXEC))
    return made


def _close_all(made: list[tuple[int, int]]) -> None:
    for ends in made:
        for fd in ends:
            os.close(fd)


def widen(pipe: int) -> None:
    """Let an engine run ahead of its program: fewer turns for the same bytes (a tenth faster uploads)."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def peer(env: dict[bytes, bytes]) -> str:
    """Return how log lines name the client: ADDRESS_PORT."""
    proto = env.get(b"PROTO", b"")
    address, port = env.get(proto + b"REMOTEIP", b""), env.get(proto + b"REMOTEPORT", b"")
    return (address + b"_" + port).decode("ascii", "backslashreplace") if address else ""
