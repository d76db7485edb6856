"""Noticing that another process of ours takes nothing any more: it hangs, was stopped, or cannot fork."""

from __future__ import annotations

import time
from collections.abc import Callable

from s6tls.posix.fdpass import DescriptorSender
from s6tls.posix.reactor import Reactor, Timer

PATIENCE_S = 5.0
_MOST_PATIENCE_S = 60.0
_LOOKS = 5


class Watchdog:
    """Calls `stalled`, once, when something has waited for `patience_s` and nothing was taken meanwhile.

    One that takes nothing because it has enough to do is given time as long as `is_busy` says so at each look.
    """

    def __init__(
        self,
        reactor: Reactor,
        sender: DescriptorSender,
        stalled: Callable[[], object],
        patience_s: float,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reactor, self._sender, self._stalled, self.patience_s = reactor, sender, stalled, patience_s
        self._is_busy = is_busy
        self._taken = 0
        self._since = 0.0
        self._timer: Timer | None = None

    def look(self) -> None:
        """Look from now on, since something was sent, until all has been taken."""
        if self._timer is None:
            self._taken, self._since = self._sender.taken, time.monotonic()
            self._look_later()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def next_patience_s(self) -> float:
        """How long to wait for the one that comes in place of this: whatever holds one up may hold up the next."""
        return min(2 * self.patience_s, _MOST_PATIENCE_S)

    def _look_later(self) -> None:
        self._timer = self._reactor.after(self.patience_s / _LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._sender.waits:
            return
        taken, now = self._sender.taken, time.monotonic()
        if self._is_busy() or taken != self._taken:
            self._taken, self._since = taken, now
        elif now - self._since >= self.patience_s:
            self._stalled()
            return
        self._look_later()
