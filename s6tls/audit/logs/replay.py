"""What a rule set decides for the clients of a log, and what another would decide differently."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.keys import BY_NAME, address_text
from s6tls.accessrules.text import decoded
from s6tls.audit.core import wording
from s6tls.audit.core.networks import Family, key_order
from s6tls.audit.core.progress import Progress, counted, silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.wording import Decided, Json
    from s6tls.audit.logs.log import Log
    from s6tls.audit.logs.tally import Tally


CLIENTS = 1 << 20
"""How many clients are remembered by their addresses."""


class Flip(NamedTuple):
    """A client that the two rule sets decide on differently, and how many lines it has."""

    packed: bytes
    hits: int
    before: Decided
    after: Decided

    @property
    def client(self) -> str:
        """The text of its address."""
        return address_text(self.packed).decode()

    def json(self) -> Json:
        """Return the flip as JSON has it."""
        return {
            "address": self.client,
            "hits": self.hits,
            "before": self.before.json(),
            "after": self.after.json(),
        }


class Replay:
    """Logs judged by a rule set and, maybe, also by another.

    A *hit* is a line with an address.  Addresses are packed, 4 or 16 bytes.  When all logs have been read:

    - `lines` and `unread`: how many lines there are, and how many of them have no address;
    - `clients`: the hits of each client, of the first `most` clients;
    - `beyond`: the hits of all other clients, which are counted but not remembered by address;
    - `verdicts`: the hits for ``allow``, ``deny`` and ``notfound``; `rules`: the hits of each rule that has some;
    - `undecided`: the clients, of those remembered, that no rule by address decides, and their hits;
    - `flips`: the clients, of those remembered, that the other rule set decides on differently; `flipped`: the hits of
      all that there are.

    `undecided` and `flips` begin with the clients that have most hits.
    """

    def __init__(
        self,
        loaded: LoadedRules,
        against: LoadedRules | None = None,
        *,
        most: int = CLIENTS,
        progress: Progress = silent,
    ) -> None:
        self.compares = against is not None
        self.lines = 0
        self.unread = 0
        self.clients: dict[bytes, int] = {}
        self.beyond = 0
        self.verdicts: Counter[str] = Counter()
        self.rules: Counter[bytes] = Counter()
        self.undecided: dict[bytes, int] = {}
        self.flips: list[Flip] = []
        self.flipped = 0
        self._loaded = loaded
        self._against = against
        for rules in filter(None, (loaded, against)):
            for family in Family:
                rules.interval_index(family, progress)
        self._most = most
        self._progress = progress

    def read(self, log: Log) -> None:
        """Read a log to its end.  Raises LogError and OSError."""
        self.count(log.hits())
        self.close(log)

    def close(self, log: Tally) -> None:
        """Take down the lines of a log whose hits have been counted."""
        self.lines += log.lines
        self.unread += log.unread

    def count(self, hits: Iterable[tuple[bytes, int]]) -> None:
        """Count clients, packed, and how many lines each has."""
        clients = self.clients
        for packed, number in hits:
            if packed in clients:
                clients[packed] += number
            elif len(clients) < self._most:
                clients[packed] = number
            else:
                self.beyond += number
                self._judge(packed, number)

    def finish(self) -> None:
        """Judge the clients, after the last log."""
        by_hits = sorted(self.clients.items(), key=lambda client: (-client[1], len(client[0]), client[0]))
        for packed, hits in counted(by_hits, "clients judged", self._progress):
            before, after = self._judge(packed, hits)
            if before.rule is None:
                self.undecided[packed] = hits
            if after is not None and before.rule != after.rule:
                self.flips.append(Flip(packed, hits, before, after))

    def _judge(self, packed: bytes, hits: int) -> tuple[Decided, Decided | None]:
        before = self._loaded.decide(packed)
        self.verdicts[wording.verdict(before.rule)] += hits
        if before.key is not None:
            self.rules[before.key] += hits
        after = None if self._against is None else self._against.decide(packed)
        if after is not None and before.rule != after.rule:
            self.flipped += hits
        return before, after

    def by_hits(self) -> list[tuple[bytes, int]]:
        """Return the rules that have hits with these, most first; of equals, in the order of their networks."""
        return sorted(self.rules.items(), key=lambda rule: (-rule[1], key_order(rule[0])))

    def unused(self) -> list[bytes]:
        """Return the keys of the rules without a hit, in order; a log cannot tell for rules by name."""
        unused = [key for key in self._loaded.rules if key not in self.rules and not key.startswith(BY_NAME)]
        return sorted(unused, key=key_order)

    def json(self) -> Json:
        """Return the answer as JSON has it."""
        found: Json = {
            "lines": self.lines,
            "unread": self.unread,
            "clients": len(self.clients),
            "beyond": self.beyond,
            "allow": self.verdicts["allow"],
            "deny": self.verdicts["deny"],
            "undecided": self.verdicts["notfound"],
            "rules": {decoded(key): hits for key, hits in self.by_hits()},
            "unused": [decoded(key) for key in self.unused()],
            "undecided_clients": {address_text(packed).decode(): hits for packed, hits in self.undecided.items()},
        }
        if self.compares:
            found["flipped"] = self.flipped
            found["flips"] = [flip.json() for flip in self.flips]
        return found
