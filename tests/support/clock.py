"""Time that passes when a test says so."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Clock:
    """A clock, and callbacks at its moments."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def now_ns(self) -> int:
        return round(self.seconds * 1e9)

    def after(self, seconds: float, callback: Callable[[], object]) -> None:
        heapq.heappush(self._due, (self.seconds + seconds, next(self._order), callback))

    def pass_s(self, seconds: float) -> None:
        end = self.seconds + seconds
        while self._due and self._due[0][0] <= end:
            self.seconds, _, callback = heapq.heappop(self._due)
            callback()
        self.seconds = end
