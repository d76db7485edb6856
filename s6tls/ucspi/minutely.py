"""Log lines about what strangers can make happen as often as they like: one a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from s6tls.ucspi.log import Log, Told, death, log

_MINUTE_S = 60.0
_MOST_NETWORKS = 1000

After = Callable[[float, Callable[[], object]], object]
"""Calls back after so many seconds, as `Reactor.after` does."""


class Minutely:
    """Calls `say` when asked to, but once a minute; it returns whether there was anything to say.

    What is asked for within the minute comes at its end, and so on every minute until there is nothing to say.
    """

    def __init__(self, after: After, say: Callable[[], bool]) -> None:
        self._after, self._say = after, say
        self._resting = False

    def ask(self) -> None:
        """Say it now, or at the end of the minute in which something has been said."""
        if not self._resting:
            self._turn()

    def _turn(self) -> None:
        self._resting = self._say()
        if self._resting:
            self._after(_MINUTE_S, self._turn)


class Deaths:
    """Warns of our processes that signals end: of the first by its name, of the others in sum, once a minute."""

    def __init__(self, program: str, after: After) -> None:
        self._program, self._count, self._last = program, 0, ""
        self._minutely = Minutely(after, self._tell)

    def add(self, what: str, status: int) -> None:
        """Take note of an end, as a status of wait(2) tells it; only one by a signal counts."""
        if said := death(what, status):
            self._count += 1
            self._last = said
            self._minutely.ask()

    def _tell(self) -> bool:
        count, self._count = self._count, 0
        if count:
            others = f", and so were {count - 1} before it within a minute" if count > 1 else ""
            log(self._program, "warning", self._last + others)
        return bool(count)


class Refusals:
    """Tells of clients that are turned away: of the first by a line of its own, of the others in sum, once a minute.

    `why` stands behind the sum, and `about` may tell more of the network that had most of them.  There is memory
    for a thousand networks (after Misra and Gries, 1982): one that had a thousandth of all less may be named instead.
    """

    def __init__(self, log: Log, after: After, why: str, about: Callable[[str], Told] | None = None) -> None:
        self._log, self._why, self._about = log, why, about
        self._first = ""
        self._count = 0
        self._by_network: Counter[str] = Counter()
        self._minutely = Minutely(after, self.tell)

    def add(self, line: str, network: str) -> None:
        """Count a client of a network; `line` tells of it alone."""
        self._first = self._first or line
        self._count += 1
        if network not in self._by_network and len(self._by_network) >= _MOST_NETWORKS:
            self._by_network = Counter({name: count - 1 for name, count in self._by_network.items() if count > 1})
        if network in self._by_network or len(self._by_network) < _MOST_NETWORKS:
            self._by_network[network] += 1
        self._minutely.ask()

    def tell(self) -> bool:
        """Tell of those of whom no line has told; return whether there are any."""
        if not self._count:
            return False
        if self._count == 1:
            self._log.info(self._first, verbosity=1)
        else:
            most = max(self._by_network, key=self._by_network.__getitem__)
            template = "{event} {rejected} clients {why}, most of {network}" + (", which has" if self._about else "")
            told = Told(template, event="rejected", rejected=self._count, why=self._why, network=most)
            if self._about is not None:
                told = told.then(self._about(most))
            self._log.info(told, verbosity=1)
        self._first, self._count = "", 0
        self._by_network.clear()
        return True
