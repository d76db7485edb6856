"""How often a client may connect: a token bucket for each network, without a socket or a clock."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_S_IN_NS = 10**9
_MOST_NETWORKS = 16384


@dataclass(frozen=True)
class Rate:
    """A bucket that holds `burst` connections and gains `number` of them in `seconds`; all three are at least 1."""

    number: int
    seconds: int
    burst: int

    def __str__(self) -> str:
        return f"{self.number}/{self.seconds},{self.burst}"


class Buckets:
    """A bucket for each network, full when the network is first seen.

    Of a bucket only the moment is kept at which it will be full again.  A network that has not been seen for longest
    is forgotten when there are more than `most`; only that of a bucket which is not full makes a difference.
    """

    def __init__(self, rate: Rate, most: int = _MOST_NETWORKS) -> None:
        self._rate, self._most = rate, most
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, network: str, now_ns: int) -> bool:
        """Take a connection out of a network's bucket; tell whether there was one.  The clock never goes back.

        Moments are counted in nanoseconds times `number`, so that a connection is a whole number of them.
        """
        now, connection = now_ns * self._rate.number, self._rate.seconds * _S_IN_NS
        full_at = max(now, self._full_at.get(network, now)) + connection
        there_was_one = full_at <= now + self._rate.burst * connection
        if there_was_one:
            self._full_at[network] = full_at
        self._full_at.move_to_end(network)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return there_was_one
