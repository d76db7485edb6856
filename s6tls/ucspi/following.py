"""Following a session to its end, or until who holds it hangs."""

from __future__ import annotations

from collections.abc import Callable

from s6tls.posix.reactor import READABLE, Reactor, Timer
from s6tls.ucspi.image import OpenSession

_SILENT_LOOKS = 3
"""Two whole spans of silence: who was stopped with everybody else finds one gone by, and nobody hangs."""


def follow(reactor: Reactor, session: OpenSession, ended: Callable[[], object]) -> None:
    """Call `ended` when a session is over, or has been silent for so long that it is abandoned."""
    silent, is_over = 0, False
    timer: Timer | None = None

    def hear(_: int = 0) -> None:
        nonlocal silent
        if is_over:
            return
        silent = 0
        over = session.resume()
        if over:
            end()
        elif over is None:
            reactor.soon(hear)

    def look() -> None:
        nonlocal silent, timer
        silent += 1
        if silent < _SILENT_LOOKS:
            timer = reactor.after(session.silence_s, look)
        else:
            session.abandon()
            end()

    def end() -> None:
        nonlocal is_over
        is_over = True
        if timer is not None:
            timer.cancel()
        reactor.forget(session.fd)
        session.close()
        ended()

    if session.silence_s:
        timer = reactor.after(session.silence_s, look)
    reactor.watch(session.fd, READABLE, hear)
