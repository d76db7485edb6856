"""One question to one name server, over UDP, and over TCP when the answer is truncated.

Each has a channel of c-ares to itself.  So it goes out from a port of its own, which makes answers hard to forge
(RFC 5452), and nothing is remembered: the cache of a channel has no bound.
"""

from __future__ import annotations

from collections.abc import Callable

import pycares

from s6tls.posix.reactor import BROKEN, READABLE, WRITABLE, Reactor

_NONE = pycares.ARES_SOCKET_BAD

Heard = Callable[[pycares.DNSResult | None, int], None]
"""Called with a result, or with None and c-ares's number of what went wrong."""


class Query:
    """Asks the name server `server` (as in `pycares.Channel.servers`), and calls `heard` once."""

    def __init__(self, reactor: Reactor, server: str, name: str, kind: int, patience_s: float, heard: Heard) -> None:
        """Raise pycares.AresError when the question cannot be asked."""
        self._reactor, self._heard = reactor, heard
        self._events: dict[int, int] = {}
        self._channel: pycares.Channel | None = pycares.Channel(
            servers=[server], lookups="b", tries=1, timeout=2 * patience_s, sock_state_cb=self._wanted
        )
        self._timer = reactor.after(patience_s, lambda: self._conclude(None, pycares.errno.ARES_ETIMEOUT))
        try:
            self._channel.query(name, kind, callback=self._arrived)
        except pycares.AresError:
            self.close()
            raise

    def close(self) -> None:
        """Ask no more: `heard` is not called."""
        channel, self._channel = self._channel, None
        if channel is not None:
            self._timer.cancel()
            for fd in self._events:
                self._reactor.forget(fd)
            channel.cancel()  # or the library would do it in another thread, and call back from there
            channel.close()

    def _wanted(self, fd: int, readable: bool, writable: bool) -> None:
        """Note what the library waits for, if anything; once this is closed, it calls from a thread of its own."""
        if self._channel is not None:
            self._events[fd] = READABLE * readable | WRITABLE * writable
            if not self._events[fd]:
                del self._events[fd]  # closed next, and the number given to another
            self._watch(fd)

    def _watch(self, fd: int) -> None:
        """Watch a socket afresh: the library may have left something unread, and nothing new would tell."""
        self._reactor.forget(fd)
        if fd in self._events:
            self._reactor.watch(fd, self._events[fd], lambda events: self._changed(fd, events))

    def _changed(self, fd: int, events: int) -> None:
        if self._channel is not None:
            readable, writable = events & (READABLE | BROKEN), events & (WRITABLE | BROKEN)
            self._channel.process_fd(fd if readable else _NONE, fd if writable else _NONE)
            self._watch(fd)

    def _arrived(self, result: pycares.DNSResult | None, error: int | None) -> None:
        """Run by the library, which is not to be closed meanwhile."""
        self._reactor.soon(lambda: self._conclude(result, error or 0))

    def _conclude(self, result: pycares.DNSResult | None, error: int) -> None:
        if self._channel is not None:
            self.close()
            self._heard(result, error)
