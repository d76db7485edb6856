"""An event loop: descriptors, timers and signals, one callback each.

Descriptors are watched edge-triggered.  A callback hears once that something
changed.  It must then use the descriptor until it gets EAGAIN, or ask `soon` for
another turn.  In exchange, a busy connection needs no system call to say what it
waits for.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
BROKEN = select.EPOLLERR | select.EPOLLHUP
ENDED = select.EPOLLRDHUP
"""Of a socket: nobody writes any more, though there may be something left to be read."""
_EDGE = select.EPOLLET
_EVENTS_A_TURN = 256
_SIGNALS_AT_ONCE = 4096


class Timer:
    """A callback at a moment; `cancel` forgets it."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do not call."""
        self.callback = None


class Reactor:
    """Calls back when descriptors change, moments come and signals arrive, until stopped."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], object]] = {}
        self._events: dict[int, int] = {}
        self._forgotten: set[int] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: deque[Callable[[], object]] = deque()
        self._running = False

    def watch(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        """Call `callback(events)` whenever one of `events`, or an error, newly holds for `fd`."""
        self._epoll.register(fd, events | _EDGE)
        self._watched[fd], self._events[fd] = callback, events

    def rewatch(self, fd: int, events: int) -> None:
        """Go on watching `fd`, for these events; those that hold already are told, too."""
        self._epoll.modify(fd, events | _EDGE)
        self._events[fd] = events

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; do this before closing it, since a copy may live on in another process."""
        if self._watched.pop(fd, None) is not None:
            del self._events[fd]
            self._epoll.unregister(fd)
            self._forgotten.add(fd)

    def soon(self, callback: Callable[[], object]) -> None:
        """Call back after the other descriptors have had their turn."""
        self._soon.append(callback)

    def after(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back once, in `seconds`."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def watch_signals(self, callbacks: dict[int, Callable[[], object]]) -> None:
        """Call back, from the loop and never from a handler, when one of these signals has arrived."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in callbacks:
            signal.signal(number, _enqueue_only)

        def arrived(_: int) -> None:
            for number in dict.fromkeys(_drain(reading)):
                if number in callbacks:
                    callbacks[number]()

        self.watch(reading, READABLE, arrived)

    def run(self) -> None:
        """Go round until `stop`."""
        self._running = True
        while self._running:
            self.turn()

    def turn(self) -> None:
        """Wait until something happens, and call back once for all that has."""
        try:
            polled = self._epoll.poll(self._timeout_s() if self._timers or self._soon else -1, _EVENTS_A_TURN)
        except MemoryError:
            polled = []
            self._hear_again()
        self._forgotten.clear()
        for fd, events in polled:
            # A number that was closed and given out again within this turn: the event is the old one's.
            callback = None if fd in self._forgotten else self._watched.get(fd)
            if callback is not None:
                callback(events)
        if self._soon:
            for _ in range(len(self._soon)):
                self._soon.popleft()()
        if self._timers:
            self._call_timers()

    def stop(self) -> None:
        """Let `run` return after this turn."""
        self._running = False

    def close(self) -> None:
        """Release the loop's own descriptor.  In a forked child, this does not touch the parent's loop."""
        self._epoll.close()

    def _hear_again(self) -> None:
        """Have the kernel tell once more of all that holds: what it told is lost."""
        for fd, events in self._events.items():
            if events & select.EPOLLEXCLUSIVE:  # can only be watched anew
                self._epoll.unregister(fd)
                self._epoll.register(fd, events | _EDGE)
            else:
                self._epoll.modify(fd, events | _EDGE)

    def _timeout_s(self) -> float:
        """Return how long the next poll may wait; -1 is for ever."""
        if self._soon:
            return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _call_timers(self) -> None:
        while self._timers and (self._timers[0][2].callback is None or self._timers[0][0] <= time.monotonic()):
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()


def _enqueue_only(_number: int, _frame: object) -> None:
    """The handler: the interpreter has already written the signal's number to the wakeup descriptor."""


def _drain(fd: int) -> bytes:
    data = b""
    try:
        while chunk := os.read(fd, _SIGNALS_AT_ONCE):
            data += chunk
            if len(chunk) < _SIGNALS_AT_ONCE:
                break
    except BlockingIOError:
        pass
    return data
