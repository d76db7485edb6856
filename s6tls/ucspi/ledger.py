"""Who holds a slot: connections counted, in all and for each client, and the log lines that tell of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from s6tls.ucspi.log import Log

if TYPE_CHECKING:
    from s6tls.ucspi.image import OpenSession


@dataclass(frozen=True)
class Limits:
    """How many connections at once, in all and from one address; and how long SIGTERM lets them finish."""

    total: int = 40
    per_address: int = 40
    drain_s: float = 0.0


class Client(NamedTuple):
    """The far end of a connection."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}_{self.port}"


class Ledger:
    """Gives slots to connections up to the limits, takes them back, and logs both.

    A slot and the lines about it are separate: who decides when a connection is over calls `release`.
    """

    def __init__(self, limits: Limits, log: Log) -> None:
        self.limits, self.log = limits, log
        self.count = 0
        self._held: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether there is no slot for anybody."""
        return self.count >= self.limits.total

    def admit(self, client: Client) -> int | None:
        """Give a client a slot; return how many it held already, or None when it may have no more."""
        held = self._held[client.address]
        if held >= self.limits.per_address:
            self.log.info(f"reject {client} count {self._share(client)}", verbosity=1)
            return None
        self.count += 1
        self._held[client.address] += 1
        return held

    def release(self, client: Client) -> None:
        """Take a slot back."""
        self.count -= 1
        self._held[client.address] -= 1
        if not self._held[client.address]:
            del self._held[client.address]

    def log_accept(self, client: Client, pid: int) -> None:
        """Log that a client has its process, or that this process has refused it."""
        self.log.info(f"accept {client} pid {pid} count {self._share(client)}")
        self.log_status()

    def log_end(self, client: Client, pid: int, how: str) -> None:
        """Log how a client's process has ended."""
        self.log.info(f"end pid {pid} {how} count {self._share(client)}")

    def log_session(self, client: Client, pid: int, seconds: float, session: OpenSession) -> None:
        """Log what is to be said of a session that has ended, and whose it was."""
        if told := str(session):
            self.log.info(f"session {client} pid {pid} seconds {seconds:.3f} {told}")

    def log_status(self) -> None:
        """Log how many slots are taken."""
        self.log.info(f"status: {self.count}/{self.limits.total}")

    def _share(self, client: Client) -> str:
        return f"{self._held[client.address]}/{self.limits.per_address}"
