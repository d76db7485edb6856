"""The DNS: names of an address, addresses of a name, without waiting.

c-ares asks the servers over UDP, and over TCP when an answer is truncated.  It works in a thread of its
own; answers come back through the event loop.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

import pycares

from s6tls.accessrules.identifiers import normalised
from s6tls.helper.names import reverse_name
from s6tls.posix.reactor import READABLE, Reactor

_NOTHING_THERE = (pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA)

Answer = Callable[[list[bytes], str], None]
"""Called with what was found and, if the question could not be answered, why."""


class Resolver:
    """Asks the name servers at `servers` (IP addresses), or those of /etc/resolv.conf."""

    def __init__(self, reactor: Reactor, servers: Sequence[str] = ()) -> None:
        """Raise OSError when the library cannot start."""
        self._answered: deque[Callable[[], None]] = deque()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._channel = pycares.Channel(servers=list(servers) or None, lookups="b")
        except pycares.AresError as error:
            os.close(self._wakeup)
            raise OSError(f"unable to start the resolver: {error}") from error
        self._reactor = reactor
        reactor.watch(self._wakeup, READABLE, self._deliver)

    def close(self) -> None:
        """Ask no more; open questions get no answer."""
        self._channel.cancel()  # the library has nothing to call back about after this
        self._channel.close()
        self._reactor.forget(self._wakeup)
        os.close(self._wakeup)

    def names(self, address: bytes, answer: Answer) -> None:
        """Find the host names of a 4- or 16-byte address.  Invalid host names are left out."""

        def usable(found: list[str]) -> list[bytes]:
            return [name for name in map(normalised, found) if name is not None]

        self._ask(reverse_name(address), pycares.QUERY_TYPE_PTR, "dname", lambda found, why: answer(usable(found), why))

    def addresses(self, name: bytes, family: socket.AddressFamily, answer: Answer) -> None:
        """Find the addresses, 4 or 16 bytes each, of a host name."""

        def packed(found: list[str]) -> list[bytes]:
            return [socket.inet_pton(family, text) for text in found]

        kind = pycares.QUERY_TYPE_A if family == socket.AF_INET else pycares.QUERY_TYPE_AAAA
        self._ask(name.decode("ascii"), kind, "addr", lambda found, why: answer(packed(found), why))

    def _ask(self, name: str, kind: int, field: str, answer: Callable[[list[str], str], None]) -> None:
        asked = [answer]  # the library may both call back and raise

        def arrived(result: pycares.DNSResult | None, error: int | None) -> None:
            """Run by the library's thread."""
            if result is not None:
                conclude([getattr(record.data, field) for record in result.answer if record.type == kind], "")
            elif error in _NOTHING_THERE:
                conclude([], "")
            else:
                conclude([], str(pycares.errno.strerror(error)) if error else "no answer")

        def conclude(found: list[str], why: str) -> None:
            if asked:
                told = asked.pop()
                self._answered.append(lambda: told(found, why))
                os.eventfd_write(self._wakeup, 1)

        try:
            self._channel.query(name, kind, callback=arrived)
        except (pycares.AresError, ValueError) as error:
            conclude([], str(error))

    def _deliver(self, _: int) -> None:
        os.eventfd_read(self._wakeup)
        while self._answered:
            self._answered.popleft()()
