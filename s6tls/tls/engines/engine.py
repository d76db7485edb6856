"""The engine: TLS sessions in this process, under ids that cannot do anything else.

`confine_and_load` is where root ends; nothing from the network is read before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.identity import BadIdentity, why_not
from s6tls.posix.jail import Jail, Role, Unjailable, become
from s6tls.posix.reactor import Reactor
from s6tls.tls import delayed, variables
from s6tls.tls.context import BadConfiguration, Mismatch, build
from s6tls.tls.credentials import BAD_CONFIGURATION, BAD_HANDSHAKE, PROGRAM, Credentials, SessionOptions
from s6tls.tls.ends import Descriptors, Ends
from s6tls.tls.engines.account import OnPipe, OnStderr, Teller
from s6tls.tls.owner import Owner, Patience
from s6tls.tls.parameters import TlsParameters
from s6tls.tls.pump import Pump, TLSFailure
from s6tls.tls.session import Session, Unwatchable
from s6tls.ucspi.image import StageExit

if TYPE_CHECKING:
    from OpenSSL import SSL

BROKEN = ExitCode.BROKEN_SESSION
SYSTEM = ExitCode.SYSTEM
_SHOWS = 3
"""How often an engine breaks what would be the silence of one that hangs."""


def confine_and_load(parameters: TlsParameters, credentials: Credentials) -> SSL.Context:
    """Give privileges up, then make the context from the files' bytes.

    Raises StageExit: 111 when the ids cannot be taken, 96 when the files are no good; 95, with a warning, when
    a renewed key does not belong to its certificate.
    """
    if parameters.identity is not None:
        try:
            become(parameters.identity, parameters.options.engine_uids)
        except (OSError, BadIdentity) as error:
            raise StageExit(PROGRAM, SYSTEM, f"unable to drop privileges: {why_not(error)}") from error
    try:
        return build(credentials, parameters.options)
    except Mismatch as error:
        if not credentials.renewed:
            raise StageExit(PROGRAM, BAD_CONFIGURATION, str(error)) from error
        message = f"{error}: going on with the last key and certificate"
        raise StageExit(PROGRAM, ExitCode.KEYPAIR_MISMATCH, message, kind="warning") from error
    except BadConfiguration as error:
        raise StageExit(PROGRAM, BAD_CONFIGURATION, str(error)) from error


def enter_jail(options: SessionOptions) -> None:
    """Confine this process to what one session needs.  Raises StageExit (111)."""
    with jailing():
        Jail(Role.ENGINE, options.jail, PROGRAM, options.engine_uids).enter()


@contextlib.contextmanager
def jailing() -> Iterator[None]:
    """A block that confines this process.  Raises StageExit (111)."""
    try:
        yield
    except (Unjailable, BadIdentity, OSError) as error:
        raise StageExit(PROGRAM, SYSTEM, f"unable to enter the jail: {error}") from error


class Engine:
    """Holds sessions of one context, all in one event loop."""

    def __init__(self, reactor: Reactor, context: SSL.Context, options: SessionOptions) -> None:
        self._reactor, self._context, self._options = reactor, context, options
        self._tellers: set[OnPipe] = set()
        self._shows_later = False

    def start_session(self, fds: Descriptors, peer: str, ended: Callable[[int], None]) -> None:
        """Hold one session on `fds`; tell what breaks it, and call `ended` with its exit code.

        It is told on `fds.account`, or else on stderr, where `peer` names the client.  A delayed session begins when
        the program says so.
        """
        teller: Teller
        if fds.account is None:
            teller = OnStderr(peer)
        else:
            teller = OnPipe(fds.account, awaits_reply=not self._options.delayed)
            fds = Descriptors(*fds[:-1])  # the last is `account`
            teller.alive()
            self._tellers.add(teller)
            self._show_later()

        def ended_early(code: int) -> None:
            if code:
                teller.unable(delayed.UNRECOGNIZED)
            teller.ended(0, 0)
            ended(code)

        if self._options.delayed:
            delayed.await_command(self._reactor, fds, lambda fds: self._begin(fds, teller, ended), ended_early)
        else:
            self._begin(fds, teller, ended)

    def _show_later(self) -> None:
        silence_s = self._options.silence_s
        if silence_s and self._tellers and not self._shows_later:
            self._shows_later = True
            self._reactor.after(silence_s / _SHOWS, self._show_life)

    def _show_life(self) -> None:
        """Tell the server, as long as sessions last, that this process does not hang."""
        self._shows_later = False
        self._tellers = {teller for teller in self._tellers if teller.is_open}
        for teller in self._tellers:
            teller.alive()
        self._show_later()

    def _begin(self, fds: Descriptors, teller: Teller, ended: Callable[[int], None]) -> None:
        options = self._options
        code = 0

        def failed(failure: TLSFailure) -> None:
            nonlocal code
            code = SYSTEM if failure.ours else BAD_HANDSHAKE if failure.during_handshake else BROKEN
            teller.failed(str(failure), failure.during_handshake, failure.ours)

        def report(pump: Pump) -> bytes:
            teller.shaken()
            return variables.notification(pump)

        def over() -> None:
            teller.ended(ends.to_program.count, ends.from_program.count)
            ended(code)

        unowned: Descriptors | Ends = fds
        try:
            pump = Pump(self._context, options.close_notify, options.demand_close_notify)
            unowned = ends = Ends(fds, shared=options.delayed)
            patience = Patience(options.handshake_timeout_ms / 1000, options.stall_timeout_ms / 1000)
            Session(self._reactor, pump, ends, Owner(report, failed, over), patience)
        except (Unwatchable, MemoryError, OSError) as error:
            teller.unable(str(error) or "out of memory")
            for fd in fds.numbers:
                self._reactor.forget(fd)
            unowned.close()
            teller.ended(0, 0)
            ended(SYSTEM)


def run(context: SSL.Context, options: SessionOptions, fds: Descriptors, peer: str = "") -> int:
    """Hold one session until it ends and return its exit code."""
    codes: list[int] = []
    reactor = Reactor()

    def ended(code: int) -> None:
        codes.append(code)
        reactor.stop()

    Engine(reactor, context, options).start_session(fds, peer, ended)
    if not codes:
        reactor.run()
    return codes[0]
