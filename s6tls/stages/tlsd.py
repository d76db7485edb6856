"""The stage of s6-tlsd: TLS between the network and the next program.

The next program gets pipes, or a socket, instead of the network.  An engine, in a process of its
own, stands between them.  The stage is done when the engine reports the handshake done.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from s6tls.accessrules.text import shown
from s6tls.helper.reply import Answers, RefusalReply, Reply
from s6tls.posix.descriptors import Opened
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.fdpass import put_away, take_out
from s6tls.stages.cgi import say_it_as_cgi
from s6tls.stages.preparation import Preparation
from s6tls.tls.credentials import (
    BAD_HANDSHAKE,
    SESSION_VARIABLES,
    TLS_PREFIXES,
    TLS_VARIABLES,
    NotSet,
    SessionOptions,
    SniLevel,
)
from s6tls.tls.ends import Descriptors
from s6tls.tls.engines.account import HANDSHAKE_TOO_LONG, Account, refusal
from s6tls.tls.parameters import KnownParameters, TlsParameters
from s6tls.ucspi.image import Deadline, Image, StageExit, peer
from s6tls.ucspi.log import Log

_SYSTEM = ExitCode.SYSTEM
_PIPE_BYTES = 2**18
_FEW = 4
"""How many clients in their handshake may have all their descriptors open."""
_MOST_NAMES_TOLD = 100


class EngineStarter(Protocol):
    """Puts an engine behind a connection's descriptors."""

    @property
    def gives_accounts(self) -> bool:
        """Whether the engine tells of the session to its end: on `fds.account`, or after its reply on `fds.notify`."""

    def prepare(self, parameters: TlsParameters) -> None:
        """Get ready for connections with these parameters.  Raises StageExit (96, 111)."""

    def submit(self, parameters: TlsParameters, fds: Descriptors, peer: str) -> Callable[[], int]:
        """Hand a connection to an engine; return what tells its exit code if it ends without a word on `fds.notify`.

        `peer` names the client in log lines.  Raises StageExit; the descriptors are then still the caller's.
        """

    def expect_end(self, notified: int) -> None:
        """See that the engine which has `fds.notify` ends soon: its client is given up.  Raises OSError."""


@dataclass(frozen=True)
class Welcome:
    """What the next program finds.

    `keep` leaves key and certificate variables in its environment.  `socket` is for programs that want one on 0 and 1,
    `cgi` for those that read CGI's variables.
    """

    keep: bool = False
    socket: bool = False
    cgi: bool = False


class Tlsd:
    """Give the next program a TLS session."""

    program = "s6-tlsd"

    def __init__(self, options: SessionOptions, welcome: Welcome, starter: EngineStarter) -> None:
        self._options, self._welcome, self._starter = options, welcome, starter
        self._parameters = KnownParameters(options)
        self._fresh: deque[_Held] = deque()

    def prepare(self, preparation: Preparation) -> None:
        """Get ready for clients that no rule gives other parameters.  Raises StageExit (96, 111)."""
        get_ready(self.program, self._starter, self._parameters, preparation)

    def apply(self, image: Image) -> Reply:
        """Put an engine between the network and `image`.  Raises StageExit (96, 111)."""
        parameters = self._parameters.of(image.env)
        client = peer(image.env)
        with Opened() as opened:
            app_in, app_out, from_app, to_app, notified, notify, *own = self._open(image.stdin, opened)
            fds = Descriptors(image.stdin, image.stdout, from_app, to_app, notify)
            gone = self._starter.submit(parameters, fds, client)
        image.stdin, image.stdout = app_in, app_out
        held = self._hold(image, *own) if own else None
        told: dict[bytes, bytes] = {}

        def established(variables: dict[bytes, bytes]) -> None:
            if held is not None:
                held.give_program()
            if not self._welcome.keep:
                unset_parameters(image)
            image.unset(SESSION_VARIABLES)
            image.env.update(variables)
            if self._welcome.cgi:
                say_it_as_cgi(image.env)
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

    def _open(self, network: int, opened: Opened) -> list[int]:
        """Return the program's 0 and 1, what the engine reads from and writes to, both ends of a pipe for its reply.

        A server is to keep the last, another descriptor of the connection.  Raises StageExit (111).
        """
        try:
            ends = [*self._program_ends(opened), *opened.pipe()]
            return [*ends, opened.another(network)] if self._starter.gives_accounts else ends
        except OSError as error:
            raise StageExit(self.program, _SYSTEM, f"unable to make pipes: {error.strerror}") from error

    def _program_ends(self, opened: Opened) -> tuple[int, int, int, int]:
        if self._welcome.socket:
            theirs, ours = opened.socket_pair()
            return theirs, theirs, ours, opened.another(ours)
        app_in, to_app = opened.pipe()
        from_app, app_out = opened.pipe()
        widen(to_app)
        return app_in, app_out, from_app, to_app

    def _hold(self, image: Image, own: int) -> _Held:
        """Keep what a client in its handshake needs later, and put away what an earlier one needs."""
        image.network = own
        held = _Held(image)
        self._fresh.append(held)
        if len(self._fresh) > _FEW:
            self._fresh.popleft().put_away()
        return held

    def _deadline(self, image: Image, client: str, held: _Held | None, notified: int) -> Deadline | None:
        if not self._options.handshake_timeout_ms:
            return None

        def give_up() -> None:
            try:
                if held is not None:
                    held.give_back()
            finally:
                self._starter.expect_end(notified)

        moment = image.since + self._options.handshake_timeout_ms / 1000
        return Deadline(moment, lambda: refusal(RefusalReply(BAD_HANDSHAKE, HANDSHAKE_TOO_LONG), client), give_up)


class _Held:
    """What a server keeps of a connection during its handshake: the ends of the program to come, and the network.

    There may be many such clients, so all that is put away into one descriptor, unless the handshake is over by then:
    most are before `_FEW` others have begun.
    """

    __slots__ = ("_image", "_is_away", "_is_wanted")

    def __init__(self, image: Image) -> None:
        self._image, self._is_away, self._is_wanted = image, False, False

    def put_away(self) -> None:
        """Leave one descriptor open, or all of them if the system says no."""
        image = self._image
        if self._is_wanted or image.network is None:
            return
        with contextlib.suppress(OSError):
            image.stdin = image.stdout = put_away((image.stdin, image.stdout, image.network))
            image.network, self._is_away = None, True

    def give_program(self) -> None:
        """Let the image have the program's ends again, and nobody here the network.  Raises OSError."""
        self.give_back()
        if self._image.network is not None:
            os.close(self._image.network)
            self._image.network = None

    def give_back(self) -> None:
        """Let the image have them again.  Raises OSError."""
        self._is_wanted = True
        if self._is_away:
            self._image.stdin, self._image.stdout, self._image.network = take_out(self._image.stdin, 3)
            self._is_away = False


def get_ready(program: str, starter: EngineStarter, known: KnownParameters, preparation: Preparation) -> None:
    """Have engines ready for clients that no rule gives other parameters, and log which names these have.

    Raises StageExit (96, 111).
    """
    try:
        parameters = known.of(preparation.env)
    except NotSet as missing:
        preparation.lacks(missing)
        return
    starter.prepare(parameters)
    if parameters.options.sni_level is not SniLevel.NONE:
        Log(program, preparation.log.verbosity).info(f"serves {_told(parameters.paths.server_names())}", verbosity=1)


def _told(names: Sequence[bytes]) -> str:
    told = [shown(name) for name in names[:_MOST_NAMES_TOLD] if name]
    more = len(names) - _MOST_NAMES_TOLD
    told += [f"{more} more"] if more > 0 else []
    told += ["others with the default certificate"] if b"" in names else ["no others"]
    return ", ".join(told)


def unset_parameters(image: Image) -> None:
    """Remove what names keys, certificates and the engine's ids."""
    image.unset(TLS_VARIABLES)
    if b":" in b"".join(image.env):  # in the names, of which hardly any has one
        image.unset([name for name in image.env if name.startswith(TLS_PREFIXES)])


def widen(pipe: int) -> None:
    """Let an engine run ahead of its program: fewer turns for the same bytes (a tenth faster uploads)."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
