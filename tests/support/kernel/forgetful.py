"""A kernel whose word is lost: there is no memory for what it tells."""

from __future__ import annotations

import select
import threading

from tests.support.servers import PATIENCE

_EPOLL = select.epoll


class Forgetful:
    """An epoll that runs out of memory once, when `armed`: it waits until it may `go` on, and then tells of nothing."""

    armed, waits, go = False, threading.Event(), threading.Event()

    def __init__(self) -> None:
        self._epoll = _EPOLL()
        self.register, self.modify, self.unregister = self._epoll.register, self._epoll.modify, self._epoll.unregister
        self.close = self._epoll.close

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        if Forgetful.armed:
            Forgetful.armed = False
            self.waits.set()
            assert self.go.wait(PATIENCE)
            self._epoll.poll(timeout, most)
            raise MemoryError
        return self._epoll.poll(timeout, most)
