"""Following a session to its end, or until who holds it hangs.

The kernel tells of the end.  What comes before is looked at now and then, so nobody can keep the server busy with it.
"""

from __future__ import annotations

from collections.abc import Callable

from s6tls.posix.reactor import Reactor, Timer
from s6tls.ucspi.image import OpenSession

_SILENT_LOOKS = 2
"""Who was stopped with everybody else finds one span of silence gone by, and nobody hangs."""


def follow(reactor: Reactor, session: OpenSession, ended: Callable[[], object]) -> None:
    """Call `ended` when a session is over, or has been silent for so long that it is abandoned."""
    _Followed(reactor, session, ended).look_later()


class _Followed:
    __slots__ = ("_ended", "_heard", "_is_over", "_reactor", "_session", "_silent", "_timer")

    def __init__(self, reactor: Reactor, session: OpenSession, ended: Callable[[], object]) -> None:
        self._reactor, self._session, self._ended = reactor, session, ended
        self._heard = self._silent = 0
        self._is_over = False
        self._timer: Timer | None = None
        reactor.watch(session.fd, 0, self._hear)

    def look_later(self) -> None:
        """See, when the next span is over, whether anything has come in it."""
        if self._session.silence_s:
            self._timer = self._reactor.after(self._session.silence_s, self._look)

    def _hear(self, _: int = 0) -> None:
        """Take in what is left, now that nothing is added to it."""
        if self._is_over:
            return
        over = self._session.resume()
        if over:
            self._end()
        elif over is None:
            self._reactor.soon(self._hear)

    def _look(self) -> None:
        if self._session.resume():
            self._end()
            return
        heard, self._heard = self._heard, self._session.heard
        self._silent = 0 if self._heard != heard else self._silent + 1
        if self._silent < _SILENT_LOOKS:
            self.look_later()
        else:
            self._session.abandon()
            self._end()

    def _end(self) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._reactor.forget(self._session.fd)
        self._session.close()
        self._ended()
