"""How often clients may connect whom a rule, not the server, has given a rate."""

from __future__ import annotations

import time
from collections.abc import Callable

from s6tls.ucspi.ledger import Client
from s6tls.ucspi.log import Log, Told
from s6tls.ucspi.minutely import After, Refusals
from s6tls.ucspi.rate import Buckets, Rate


class RuleRates:
    """Counts connections that come with a rate, and tells of those that are too many.

    The IPv6 addresses that have their first `prefix` bits in common are one client.
    """

    def __init__(self, prefix: int, log: Log, after: After, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._prefix, self._clock_ns = prefix, clock_ns
        self._buckets = Buckets()
        self._rejects = Refusals(log, after, "over the rate of their rule")

    def admit(self, client: Client, rate: Rate, rule: str) -> bool:
        """Tell whether a client may connect now; `rule` names where the rate is from, "" if that is no rule."""
        network = client.network(self._prefix)
        if self._buckets.take(network, rate, self._clock_ns()):
            return True
        fields = {"ip": client.address, "port": client.port, "rate": str(rate), **({"rule": rule} if rule else {})}
        by = " rule {rule}" if rule else ""
        self._rejects.add(Told("{event} {ip}_{port} rate {rate}" + by, event="reject", **fields), network)
        return False

    def log_rest(self) -> None:
        """Log what would be told at the end of the minute."""
        self._rejects.tell()
