"""How often a client may connect: a token bucket for each network, without a socket or a clock."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import NamedTuple

_RATE = re.compile(rb"(\d{1,9})/(\d{1,9})(?:,(\d{1,9}))?")
_S_IN_NS = 10**9
_MOST_NETWORKS = 16384


class Rate(NamedTuple):
    """A bucket that holds `burst` connections and gains `number` of them in `seconds`; all three are at least 1."""

    number: int
    seconds: int
    burst: int

    @classmethod
    def parse(cls, text: bytes) -> Rate:
        """Read ``number/seconds[,burst]``; the burst is the number if it is not given.  Raises ValueError."""
        match = _RATE.fullmatch(text)
        number, seconds, burst = (int(digits) for digits in match.groups(match[1])) if match else (0, 0, 0)
        if not (number and seconds and burst):
            raise ValueError("expected number/seconds[,burst], none of them 0")
        return cls(number, seconds, burst)

    def __str__(self) -> str:
        return f"{self.number}/{self.seconds},{self.burst}"


class Buckets:
    """A bucket for each network and rate, full when the network is first seen with this rate.

    Of a bucket only the moment is kept at which it will be full again.  One that has not been used for longest
    is forgotten when there are more than `most`; only a bucket that is not full makes a difference.
    """

    def __init__(self, most: int = _MOST_NETWORKS) -> None:
        self._most = most
        self._full_at: OrderedDict[tuple[str, Rate], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, network: str, rate: Rate, now_ns: int) -> bool:
        """Take a connection out of a network's bucket; tell whether there was one.  The clock never goes back.

        Moments are counted in nanoseconds times `number`, so that a connection is a whole number of them.
        """
        bucket = network, rate
        now, connection = now_ns * rate.number, rate.seconds * _S_IN_NS
        full_at = max(now, self._full_at.get(bucket, now)) + connection
        there_was_one = full_at <= now + rate.burst * connection
        if there_was_one:
            self._full_at[bucket] = full_at
        self._full_at.move_to_end(bucket)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return there_was_one
