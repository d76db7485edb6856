"""Who holds a slot: connections counted, in all and for each client, and the log lines that tell of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.keys import address_text, parse_address
from s6tls.ucspi.log import Log, Told
from s6tls.ucspi.minutely import After, Minutely, Refusals
from s6tls.ucspi.rate import Buckets, Rate

if TYPE_CHECKING:
    from s6tls.ucspi.image import OpenSession

_HOLDING = "{count} connections, {handshakes} of them in a handshake"


@dataclass(frozen=True)
class Limits:
    """What clients may have: connections at once, in all and each, and how often; how long SIGTERM lets them finish.

    The IPv6 addresses that have their first `prefix` bits in common are one client.  One that takes nothing for
    `stall_ms` loses its connection, unless that is 0.
    """

    total: int = 40
    per_client: int = 40
    drain_s: float = 0.0
    prefix: int = 64
    rate: Rate | None = None
    stall_ms: int = 0


class Client(NamedTuple):
    """The far end of a connection."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}_{self.port}"

    def network(self, prefix: int) -> str:
        """Return what counts as one client: an IPv4 address, or an IPv6 network of this length."""
        if ":" not in self.address or prefix == 128:
            return self.address
        host_bits = 128 - prefix
        first = int.from_bytes(parse_address(self.address), "big") >> host_bits << host_bits
        return f"{address_text(first.to_bytes(16, 'big')).decode()}/{prefix}"


class Ledger:
    """Gives slots to connections up to the limits, takes them back, and logs both.

    A slot and the lines about it are separate: who decides when a connection is over calls `release`.  `admitted` are
    all that had one so far; others were `over_limit` or `over_rate`.
    """

    def __init__(self, limits: Limits, log: Log, after: After, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.limits, self.log = limits, log
        self._tells_all = log.verbosity >= 2
        self.count = 0
        self.admitted = self.over_limit = self.over_rate = 0
        self._held: dict[str, int] = {}
        self._in_handshake: dict[str, int] = {}
        self._logged_count = -1
        self._logged_full = False
        self._logged_at_limit: set[str] = set()
        self._full = Minutely(after, self._tell_full)
        self._rejects = Refusals(log, after, "over -C", lambda network: Told(_HOLDING, **self._holding(network)))
        self._rate_rejects = Refusals(log, after, f"over --rate={limits.rate}")
        self._buckets = Buckets()
        self._clock_ns = clock_ns

    @property
    def is_full(self) -> bool:
        """Whether there is no slot for anybody."""
        return self.count >= self.limits.total

    def admit(self, client: Client) -> int | None:
        """Give a client a slot; return how many it held already, or None when it may have no more."""
        network = self._network(client)
        rate = self.limits.rate
        if rate is not None and not self._buckets.take(network, rate, self._clock_ns()):
            self.over_rate += 1
            line = Told("{event} {ip}_{port} rate {rate}", event="reject", **_who(client), rate=str(rate))
            self._rate_rejects.add(line, network)
            return None
        held = self._held.get(network, 0)
        if held >= self.limits.per_client:
            self.over_limit += 1
            self._log_reject(client, network)
            return None
        self.count += 1
        self.admitted += 1
        self._held[network] = held + 1
        return held

    def release(self, client: Client) -> None:
        """Take a slot back."""
        self.count -= 1
        network = self._network(client)
        _decrement(self._held, network)
        if self._logged_full:
            self._logged_full = False
            self.log.info(Told("{event} {option} no longer reached", event="limit", option="-c"))
        if network in self._logged_at_limit:
            self._logged_at_limit.remove(network)
            self.log.info(
                Told("{event} {option} no longer reached by {network}", event="limit", option="-C", network=network)
            )

    def enter_handshake(self, client: Client) -> None:
        """Take note that a client with a slot has to wait for its program, and log how many slots are taken."""
        network = self._network(client)
        self._in_handshake[network] = self._in_handshake.get(network, 0) + 1
        if self._logged_count != self.count:
            self.log_status()

    def leave_handshake(self, client: Client) -> None:
        """Take note that a client waits no more."""
        _decrement(self._in_handshake, self._network(client))

    def log_full(self) -> None:
        """Log that clients have to wait for a slot: each time that it begins, or once a minute below verbosity 2."""
        if not self._logged_full:
            self._logged_full = True
            if self._tells_all:
                self._tell_full()
            else:
                self._full.ask()

    def log_accept(self, client: Client, pid: int) -> None:
        """Log that a client has its process, or that this process has refused it."""
        if self._tells_all:
            template = "{event} {ip}_{port} pid {pid} count {count}/{limit}"
            self.log.info(Told(template, event="accept", **_who(client), pid=pid, **self._share(self._network(client))))
            self.log_status()

    def log_end(self, client: Client, pid: int, how: str) -> None:
        """Log how a client's process has ended."""
        if self._tells_all:
            what, _, number = how.partition(" ")
            template = f"{{event}} pid {{pid}} {what} {{{what}}} count {{count}}/{{limit}}"
            share = self._share(self._network(client))
            self.log.info(Told(template, event="end", pid=pid, **{what: int(number)}, **_who(client), **share))

    def log_session(self, client: Client, pid: int, seconds: float, session: OpenSession) -> None:
        """Log what is to be said of a session that has ended, and whose it was."""
        if self._tells_all and (told := session.told()):
            template = "{event} {ip}_{port} pid {pid} seconds {seconds:.3f}"
            whose = Told(template, event="session", **_who(client), pid=pid, seconds=round(seconds, 3))
            self.log.info(whose.then(told))

    def log_status(self) -> None:
        """Log how many slots are taken."""
        self._logged_count = self.count
        if self._tells_all:
            self.log.info(Told("{event}: {count}/{limit}", event="status", count=self.count, limit=self.limits.total))

    def log_rest(self) -> None:
        """Log what would be told at the end of the minute."""
        self._rejects.tell()
        self._rate_rejects.tell()

    def _network(self, client: Client) -> str:
        address = client.address
        return client.network(self.limits.prefix) if ":" in address else address

    def _share(self, network: str) -> dict[str, int]:
        return {"count": self._held.get(network, 0), "limit": self.limits.per_client}

    def _holding(self, network: str) -> dict[str, int]:
        return {"count": self._held.get(network, 0), "handshakes": self._in_handshake.get(network, 0)}

    def _log_reject(self, client: Client, network: str) -> None:
        template = "{event} {ip}_{port} count {count}/{limit}"
        line = Told(template, event="reject", **_who(client), **self._share(network))
        if not self._tells_all:
            self._rejects.add(line, network)
            return
        if network not in self._logged_at_limit:
            self._logged_at_limit.add(network)
            template = "{event} {option} reached by {network}: " + _HOLDING
            self.log.info(Told(template, event="limit", option="-C", network=network, **self._holding(network)))
        self.log.info(line)

    def _tell_full(self) -> bool:
        if self._logged_full:
            in_handshake = sum(self._in_handshake.values())
            template = "{event} {option} reached: " + _HOLDING
            self.log.warning(Told(template, event="limit", option="-c", count=self.count, handshakes=in_handshake))
        return self._logged_full


def _who(client: Client) -> dict[str, str | int]:
    return {"ip": client.address, "port": client.port}


def _decrement(counter: dict[str, int], network: str) -> None:
    left = counter[network] - 1
    if left:
        counter[network] = left
    else:
        del counter[network]
