"""What a session is driven by, in memory: a reactor whose clock the test owns, and a count of the session's calls."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from select import EPOLLERR, EPOLLHUP

from s6tls.posix.reactor import Reactor, Timer

NET, FROM_PROGRAM, TO_PROGRAM, NOTIFY = range(3, 7)
"""The descriptors of all sessions: there is one at a time."""
_PIECES = 16


class Buffer:
    """Bytes between two ends, at most `capacity` if that matters."""

    __slots__ = ("_data", "_start", "capacity")

    def __init__(self, capacity: int = 1 << 62) -> None:
        self._data, self._start = bytearray(), 0
        self.capacity = capacity

    def __len__(self) -> int:
        return len(self._data) - self._start

    @property
    def space(self) -> int:
        return self.capacity - len(self)

    def put(self, data: bytes) -> None:
        self._data += data

    def put_some(self, chunks: Iterable[bytes]) -> int:
        """Take as much as there is space for; return how much that is."""
        before = len(self)
        for chunk in islice(chunks, _PIECES):
            if not (space := self.space):
                break
            self._data += chunk if len(chunk) <= space else chunk[:space]
        return len(self) - before

    def take(self, size: int) -> bytes:
        data = bytes(self._data[self._start : self._start + size])
        self._start += len(data)
        if self._start > 65536 or self._start == len(self._data):
            del self._data[: self._start]
            self._start = 0
        return data

    def keep(self, size: int) -> None:
        """Lose all but the first bytes."""
        del self._data[self._start + size :]


class Calls:
    """Counts what a session does to its ends and its pump; the call number `fault`, from 1, raises `error`."""

    def __init__(self, fault: int = 0, error: type[Exception] = MemoryError) -> None:
        self.fault, self.error = fault, error
        self.count = 0
        self.faulty = self.misused = ""

    def made(self, name: str, proper: bool = True) -> None:
        """Count a call, which is not `proper` if the end is closed or there is nothing to write."""
        if not proper:
            self.misused = self.misused or name
        self.count += 1
        if self.count == self.fault:
            self.faulty = name
            raise self.error(f"injected into {name}")


class Clockwork(Reactor):
    """A reactor that goes when it is told to: edge-triggered, as the kernel tells of edges."""

    def __init__(self, calls: Calls, rng: random.Random) -> None:
        self.now = 0.0
        self.polls: dict[int, Callable[[], int]] = {}
        self.watched: dict[int, tuple[int, Callable[[int], object]]] = {}
        self.moments: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._touched: dict[int, None] = {}
        self._later: deque[Callable[[], object]] = deque()
        self._calls, self._rng = calls, rng

    def watch(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        self._calls.made("watch")
        assert fd not in self.watched
        self.watched[fd] = events, callback
        self._touched[fd] = None

    def rewatch(self, fd: int, events: int) -> None:
        self._calls.made("rewatch")
        self.watched[fd] = events, self.watched[fd][1]
        self._touched[fd] = None

    def forget(self, fd: int) -> None:
        self.watched.pop(fd, None)
        self._calls.made("forget")

    def soon(self, callback: Callable[[], object]) -> None:
        self._calls.made("soon")
        self._later.append(callback)

    def after(self, seconds: float, callback: Callable[[], object]) -> Timer:
        self._calls.made("after")
        timer = Timer(callback)
        heapq.heappush(self.moments, (self.now + seconds, next(self._numbers), timer))
        return timer

    def touch(self, fd: int) -> None:
        """The kernel wakes those who watch `fd`."""
        self._touched[fd] = None

    @property
    def has_work(self) -> bool:
        moment = self.next_moment()
        return bool(self._touched or self._later) or (moment is not None and moment <= self.now)

    def next_moment(self) -> float | None:
        while self.moments and self.moments[0][2].callback is None:
            heapq.heappop(self.moments)
        return self.moments[0][0] if self.moments else None

    def turn(self) -> None:
        """Go round once."""
        touched = list(self._touched)
        self._touched.clear()
        self._rng.shuffle(touched)
        for fd in touched:
            if fd in self.watched:
                wanted, callback = self.watched[fd]
                if events := self.polls[fd]() & (wanted | EPOLLERR | EPOLLHUP):
                    callback(events)
        for _ in range(len(self._later)):
            self._later.popleft()()
        while (moment := self.next_moment()) is not None and moment <= self.now:
            called = heapq.heappop(self.moments)[2].callback
            if called is not None:
                called()
