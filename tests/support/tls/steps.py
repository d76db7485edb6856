"""A session over memory that goes step by step, in any order."""

from __future__ import annotations

import random

from s6tls.tls.pump import CHUNK, MOST_TO_NETWORK, MOST_TO_PROGRAM, Pump
from tests.support.tls.memory import Client, feed, server_context, shake_hands, some_client_context

STEPS = (
    "client writes",
    "client's bytes leave",
    "server hears",
    "server's bytes leave",
    "client hears",
    "application writes",
    "application reads",
    "client closes",
    "client cuts",
    "application closes",
)


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


class World:
    """A client, two wires, the pump and an application; each step moves a few bytes at one place."""

    def __init__(
        self, version: int, request: int, answer: int, close_notify: bool, demand: bool, shaken: bool = True
    ) -> None:
        self.pump = Pump(server_context(), close_notify, demand)
        self.client = Client(some_client_context(version))
        self.request, self.answer = noise(request, 1), noise(answer, 2)
        self.written = self.answered = 0
        self.to_server, self.to_client = bytearray(), bytearray()
        self.got = b""
        self.closed = self.client_closed = self.client_cut = self.server_heard_end = False
        if shaken:
            shake_hands(self.pump, self.client)
        else:
            self.client.hear()

    def step(self, what: str, size: int) -> bool:
        """Do one thing if it can be done; tell whether anything moved."""
        moved = bool(getattr(self, "_" + what.replace("'s", "").replace(" ", "_"))(size))
        pump = self.pump
        assert pump.unsent == sum(map(len, pump.to_network)) <= MOST_TO_NETWORK
        assert sum(map(len, pump.to_program)) <= MOST_TO_PROGRAM
        assert self.request.startswith(self.got)
        assert self.answer.startswith(self.client.received)
        return moved

    def run(self, size: int, *what: str) -> None:
        """Do these things, over and over, until none of them moves anything."""
        while sum([self.step(one, size) for one in what]):
            pass

    def settle(self) -> None:
        """Let everybody do all that they can, and end well."""
        self.run(CHUNK, *(what for what in STEPS if what != "client cuts"))

    def _client_writes(self, size: int) -> bool:
        data = self.request[self.written : self.written + size]
        if not (data and self.client.established) or self.client_closed or self.client_cut:
            return False
        self.written += self.client.connection.send(data)
        return True

    def _client_closes(self, _: int) -> bool:
        """The client ends its direction as TLS says: close_notify, then end of file."""
        if not self.client.established or self.client_closed or self.client_cut:
            return False
        self.client.connection.shutdown()
        self._client_bytes_leave(0)
        self.client_closed = True
        return True

    def _client_cuts(self, size: int) -> bool:
        """The client is gone, and of what it said only so many bytes more arrive."""
        self._client_bytes_leave(0)
        del self.to_server[size:]
        self.client_cut = True
        return True

    def _client_bytes_leave(self, _: int) -> bool:
        data = self.client.said()
        if not self.client_cut:
            self.to_server += data
        return bool(data)

    def _server_hears(self, size: int) -> bool:
        if self.pump.deaf or not self.pump.wants_network:
            return False
        data = bytes(self.to_server[:size])
        if not data:
            if not (self.client_cut or (self.client_closed and not self.server_heard_end)):
                return False
            self.server_heard_end = True
        del self.to_server[:size]
        feed(self.pump, data)
        return True

    def _server_bytes_leave(self, size: int) -> bool:
        data = b"".join(self.pump.to_network)[:size]
        self.pump.sent(len(data))
        self.to_client += data
        return bool(data)

    def _client_hears(self, size: int) -> bool:
        data = bytes(self.to_client[:size])
        del self.to_client[:size]
        if data:
            self.client.hear(data)
        return bool(data)

    def _application_writes(self, size: int) -> bool:
        data = self.answer[self.answered : self.answered + size]
        if not (data and self.pump.established and self.pump.wants_program) or self.closed:
            return False
        self.pump.feed_program(data)
        self.answered += len(data)
        return True

    def _application_closes(self, _: int) -> bool:
        if self.closed or self.answered < len(self.answer) or not self.pump.wants_program:
            return False
        self.closed = True
        self.pump.feed_program(b"")
        return True

    def _application_reads(self, size: int) -> bool:
        data = b"".join(self.pump.to_program)[:size]
        self.pump.delivered(len(data))
        self.got += data
        return bool(data)
