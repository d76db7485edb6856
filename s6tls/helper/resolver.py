"""The DNS: names of an address, addresses of a name, without waiting."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pycares

from s6tls.accessrules.identifiers import normalised
from s6tls.helper.names import reverse_name
from s6tls.helper.query import Query
from s6tls.posix.reactor import Reactor

ROUNDS_S = (2.0, 4.0, 8.0)
"""How long each name server may take when all are asked for the first, the second and the third time."""
MOST_NAMES = 8
"""How many names of one address count."""
_MOST_RECORDS = 500
"""Of an answer that is looked into; there may be thousands in one, which take 45 ms to read."""
_A = pycares.QUERY_TYPE_A, pycares.ARecordData
_AAAA = pycares.QUERY_TYPE_AAAA, pycares.AAAARecordData
_NOTHING_THERE = (pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA)

Answer = Callable[[list[bytes], str], None]
"""Called with what was found and, if the question could not be answered, why."""
Cancel = Callable[[], None]
"""Call it to get no answer."""


class Resolver:
    """Asks the name servers at `servers` (IP addresses), or those of /etc/resolv.conf, one after the other.

    The one that answered last is the first to be asked.  Nothing else is remembered: name servers do that.
    """

    def __init__(self, reactor: Reactor, servers: Sequence[str] = (), rounds_s: Sequence[float] = ROUNDS_S) -> None:
        self._reactor, self._given, self._rounds_s = reactor, servers, rounds_s
        self._best = ""

    def names(self, address: bytes, answer: Answer) -> Cancel:
        """Find the host names of a 4- or 16-byte address, a few at most.  Invalid host names are left out."""

        def usable(records: Sequence[pycares.DNSRecord]) -> list[bytes]:
            names = (normalised(one.data.dname) for one in records if isinstance(one.data, pycares.PTRRecordData))
            return list(itertools.islice(filter(None, names), MOST_NAMES))

        return self._ask(reverse_name(address), pycares.QUERY_TYPE_PTR, usable, answer)

    def addresses(self, name: bytes, family: socket.AddressFamily, answer: Answer) -> Cancel:
        """Find the addresses, 4 or 16 bytes each, of a host name."""
        kind, data = _A if family == socket.AF_INET else _AAAA

        def packed(records: Sequence[pycares.DNSRecord]) -> list[bytes]:
            return [socket.inet_pton(family, one.data.addr) for one in records if isinstance(one.data, data)]

        return self._ask(name.decode("ascii"), kind, packed, answer)

    def _ask(
        self, name: str, kind: int, read: Callable[[Sequence[pycares.DNSRecord]], list[bytes]], answer: Answer
    ) -> Cancel:
        def concluded(server: str, result: pycares.DNSResult | None, why: str) -> None:
            if server:
                self._best = server
            if result and len(result.answer) > _MOST_RECORDS:
                answer([], "too large an answer from a name server")
            else:
                answer(read(result.answer) if result else [], why)

        return _Question(self._reactor, self._turns(), name, kind, concluded).cancel

    def _turns(self) -> Iterator[tuple[str, float]]:
        """Yield name servers as they are to be asked, each with how long it may take.  Raises pycares.AresError."""
        servers = self._given or pycares.Channel(lookups="b", sock_state_cb=_ignore).servers
        servers = sorted(servers, key=lambda server: server != self._best)
        for patience_s in self._rounds_s:
            yield from ((server, patience_s) for server in servers)


class _Question:
    """A question on its way from name server to name server, until one knows the answer."""

    def __init__(
        self,
        reactor: Reactor,
        turns: Iterator[tuple[str, float]],
        name: str,
        kind: int,
        concluded: Callable[[str, pycares.DNSResult | None, str], None],
    ) -> None:
        """`concluded` gets the name server that knew, if any, what it said, and why there is no answer."""
        self._reactor, self._turns, self._name, self._kind, self._concluded = reactor, turns, name, kind, concluded
        self._query: Query | None = None
        self._cancelled = False
        self._why = "no answer"
        reactor.soon(self._next)

    def cancel(self) -> None:
        """Conclude nothing."""
        self._cancelled = True
        if self._query is not None:
            self._query.close()

    def _next(self) -> None:
        if self._cancelled:
            return
        try:
            server, patience_s = next(self._turns)
            self._query = Query(self._reactor, server, self._name, self._kind, patience_s, partial(self._heard, server))
        except StopIteration:
            self._concluded("", None, self._why)
        except pycares.AresError as error:
            self._concluded("", None, str(error.args[-1]))

    def _heard(self, server: str, result: pycares.DNSResult | None, error: int) -> None:
        if result is not None or error in _NOTHING_THERE:
            self._concluded(server, result, "")
        else:
            self._why = str(pycares.errno.strerror(error))
            self._next()


def _ignore(_fd: int, _readable: bool, _writable: bool) -> None:
    """With a callback for its sockets, a channel starts no thread."""
