"""Starting again what keeps failing: ever more slowly."""

from __future__ import annotations

import time

_FIRST_S = 0.2
_LONGEST_S = 4.0
_CALM_S = 60.0


class Backoff:
    """How long to rest after each failure: twice as long as after the last, until there was none for a minute."""

    def __init__(self) -> None:
        self._rest_s = _FIRST_S
        self._calm_from = 0.0

    def failed(self) -> float:
        """Return how many seconds to rest."""
        now = time.monotonic()
        self._rest_s = _FIRST_S if now >= self._calm_from else min(2 * self._rest_s, _LONGEST_S)
        self._calm_from = now + _CALM_S
        return self._rest_s
