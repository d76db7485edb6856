"""Ending by a signal, but tidily: the work is told at its next checkpoint, cleans up, and then the signal kills."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(Exception):
    """A signal asks the work to stop."""


class DeferredSignals:
    """While entered, SIGTERM, SIGINT and SIGHUP only take note; on leaving, one that came ends the process.

    A signal that was ignored before stays ignored.  For the main thread only.
    """

    def __init__(self) -> None:
        self._caught = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._caught = number

    def checkpoint(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self._caught:
            raise Interrupted

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal() returned
        if self._caught:
            signal.signal(self._caught, signal.SIG_DFL)
            os.kill(os.getpid(), self._caught)
