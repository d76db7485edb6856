"""The engine: TLS sessions in this process, under ids that cannot do anything else.

`settle` is where root ends; nothing from the network is read before it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

from OpenSSL import SSL

from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.identity import BadIdentity, Identity
from s6tls.posix.reactor import Reactor
from s6tls.tls import context, delayed, variables
from s6tls.tls.credentials import BAD_CONFIGURATION, BAD_HANDSHAKE, PROGRAM, Material, Options
from s6tls.tls.ends import Descriptors, Ends
from s6tls.tls.pump import Pump, TLSFailure
from s6tls.tls.session import Session, Unwatchable
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.log import log

BROKEN = ExitCode.BROKEN_SESSION
SYSTEM = ExitCode.SYSTEM


def settle(material: Material, options: Options, identity: Identity | None) -> SSL.Context:
    """Give privileges up, then make the context from the files' bytes.

    Raises StageExit: 111 when the ids cannot be taken, 96 when the files are no good.
    """
    if identity is not None:
        try:
            identity.take()
        except (OSError, BadIdentity) as error:
            raise StageExit(PROGRAM, SYSTEM, f"unable to drop privileges: {error}") from error
    try:
        return context.build(material, options)
    except context.BadConfiguration as error:
        raise StageExit(PROGRAM, BAD_CONFIGURATION, str(error)) from error


def carry(
    reactor: Reactor,
    settled: SSL.Context,
    options: Options,
    fds: Descriptors,
    peer: str,
    ended: Callable[[int], None],
) -> None:
    """Carry one session on `fds`; say on stderr what breaks it, and call `ended` with its exit code.

    `peer` names the client in that message.  A delayed session begins when the program says so.
    """
    if options.delayed:
        delayed.await_command(reactor, fds, lambda fds: _begin(reactor, settled, options, fds, peer, ended), ended)
    else:
        _begin(reactor, settled, options, fds, peer, ended)


def _begin(
    reactor: Reactor,
    settled: SSL.Context,
    options: Options,
    fds: Descriptors,
    peer: str,
    ended: Callable[[int], None],
) -> None:
    code = 0

    def failed(failure: TLSFailure) -> None:
        nonlocal code
        code = BAD_HANDSHAKE if failure.during_handshake else BROKEN
        stage = "complete the handshake" if failure.during_handshake else "go on"
        log(PROGRAM, "fatal", f"unable to {stage}{' with ' + peer if peer else ''}: {failure}")

    try:
        _send_at_once(fds.net_out)
        Session(
            reactor,
            Pump(settled, options.close_notify, options.demand_close_notify),
            Ends(fds, shared=options.delayed),
            variables.notification,
            failed,
            lambda: ended(code),
            handshake_timeout=options.handshake_timeout / 1000,
            close_notify=options.close_notify,
        )
    except (Unwatchable, MemoryError, OSError, SSL.Error) as error:
        log(PROGRAM, "fatal", str(error) or "out of memory")
        for fd in (fds.net_in, fds.net_out, fds.from_program, fds.to_program):
            reactor.forget(fd)
        fds.close()
        ended(SYSTEM)


def _send_at_once(fd: int) -> None:
    """Disable Nagle's algorithm: records are written whole, and one that waited for an acknowledgement lost 40 ms."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def run(settled: SSL.Context, options: Options, fds: Descriptors, peer: str = "") -> int:
    """Carry one session until it ends and return its exit code."""
    codes: list[int] = []
    reactor = Reactor()

    def ended(code: int) -> None:
        codes.append(code)
        reactor.stop()

    carry(reactor, settled, options, fds, peer, ended)
    if not codes:
        reactor.run()
    return codes[0]
