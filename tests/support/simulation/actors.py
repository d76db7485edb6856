"""Who stands at the two ends of a simulated session: the client and the program, each of whom acts by a plan."""

from __future__ import annotations

import functools
import random

from OpenSSL import SSL

from tests.support.simulation.clockwork import Clockwork
from tests.support.simulation.ends import Input, Output, Told
from tests.support.simulation.network import Connection
from tests.support.simulation.plans import FOREVER, Act, Meaning, Plan, Say, say
from tests.support.tls import sealing
from tests.support.tls.memory import Client, client_context
from tests.support.tls.sealing import ALERT, DATA, HEADER, Records

PATIENCE = 5000.0
"""Seconds that a program waits for anything."""
_REQUEST, _ANSWER = (random.Random(seed).randbytes(1 << 24) for seed in (1, 2))


class Wrong(AssertionError):
    """A session did what it must not do; the message says what."""


_client = functools.cache(sealing.context)


@functools.cache
def _hello(version: int) -> bytes:
    """A ClientHello without the record around it."""
    client = Client(client_context(version))
    client.hear()
    return client.said()[HEADER:]


class Peer:
    """The client: does the acts of a plan, and reads."""

    def __init__(self, plan: Plan, connection: Connection, clock: Clockwork, rng: random.Random) -> None:
        self._plan, self._connection, self._clock, self._rng = plan, connection, clock, rng
        told, self._make_records = _client(plan.version)
        self._library = Client(told)
        self._library.hear()
        self._records: Records | None = None
        self._acts = list(reversed(plan.client))
        self._wake = 0.0
        self._waiting = self._stalled = self._not_reading = False
        self._heard, self._opened = bytearray(), 0
        self._unread: list[tuple[int, int]] = []
        self._taken = 0
        self.meaning = Meaning(plan.version)
        self._asked = 0
        self.handshake = 0
        self.shaking = self._has_to_say = True
        self.answer_arrived = self.answer_read = 0
        self.alerts: list[bytes] = []
        self.close_notified = self.seen_end = self.seen_reset = False
        self.said_at_end = -1
        connection.reader = self._hear

    # What it says

    @property
    def can_act(self) -> bool:
        if self.shaking:
            return self._has_to_say
        if self._waiting and (self.seen_end or self.seen_reset or self.alerts):
            return True
        return bool(self._acts) and self._clock.now >= self._wake

    @property
    def moment(self) -> float:
        """When it goes on by itself."""
        return self._wake if not self.shaking and self._wake > self._clock.now else FOREVER

    def act(self) -> None:
        if self.shaking:
            self._shake_hands()
            return
        self._waiting = self._stalled = False
        self._wake = 0.0
        if self._acts:
            self._perform(self._acts.pop())

    def _shake_hands(self) -> None:
        self._has_to_say = False
        data = self._library.said()
        sent = data[: self._plan.cut - self.handshake]
        self._connection.say(sent)
        self.meaning.part(len(sent))
        self.handshake += len(data)
        if self.handshake > self._plan.cut or self._library.established:
            self.shaking = False

    def _perform(self, act: Act) -> None:
        connection = self._connection
        if isinstance(act, Say):
            if self._records is not None and self.handshake <= self._plan.cut:
                hello = _hello(self._plan.version)
                connection.say(say(act, self._records, self.meaning, self._content, hello))
            elif act.what == "junk":
                connection.say(bytes(act.number))
            return
        match act.what:
            case "end":
                connection.end()
            case "reset":
                connection.reset(self._some())
            case "close":
                connection.close_client(self._some())
            case "stop reading" | "read":
                self._not_reading = act.what == "stop reading"
            case _:
                self._wake = self._clock.now + act.seconds
                self._stalled = act.what == "stall"
                self._waiting = act.what == "wait"
                if self._waiting:
                    self._not_reading = False

    def _content(self, size: int) -> bytes:
        if self.meaning.end:
            return bytes(size)
        self._asked += size
        return _REQUEST[self._asked - size : self._asked]

    def _some(self) -> int:
        return self._rng.choice((0, len(self._connection.sent), self._rng.randrange(len(self._connection.sent) + 1)))

    # What it hears

    @property
    def can_read(self) -> bool:
        connection = self._connection
        if connection.client_closed or self._not_reading or (self._stalled and self._clock.now < self._wake):
            return False
        if connection.client_heard_reset:
            return not self.seen_reset
        return bool(connection.at_client) or (connection.client_heard_end and not self.seen_end)

    def read(self, size: int) -> None:
        connection = self._connection
        if connection.client_heard_reset:
            self.seen_reset = True
        elif connection.at_client:
            self._taken += len(connection.at_client.take(size))
            while self._unread and self._unread[0][0] <= self._taken:
                self.answer_read += self._unread.pop(0)[1]
        else:
            self.seen_end = True
            self.said_at_end = self.meaning.said

    def _hear(self, data: bytes) -> None:
        """Take records apart as they arrive at the kernel, whenever the client may read them."""
        self._heard += data
        start = 0
        while len(self._heard) >= start + HEADER:
            size = HEADER + int.from_bytes(self._heard[start + 3 : start + HEADER], "big")
            if len(self._heard) < start + size:
                break
            self._opened += size
            self._hear_record(bytes(self._heard[start : start + size]))
            start += size
        del self._heard[:start]

    def _hear_record(self, record: bytes) -> None:
        if self._records is None:
            self._has_to_say = True
            try:
                self._library.hear(record)
            except SSL.Error:
                self.alerts.append(record)
                self.shaking = False
            if self._library.established:
                self._records = self._make_records(self._library.connection)
            return
        kind, content = self._records.open(record)
        if kind == DATA:
            if self.close_notified:
                raise Wrong("the client got data after close_notify")
            begin = self.answer_arrived
            self.answer_arrived += len(content)
            if content != _ANSWER[begin : self.answer_arrived]:
                raise Wrong(f"the client got other bytes after {begin}")
            self._unread.append((self._opened, len(content)))
        elif kind == ALERT and content == b"\x01\x00":
            self.close_notified = True
        elif kind == ALERT and content[0] == 2:
            self.alerts.append(content)


class Program:
    """Does the steps of a plan, then exits."""

    def __init__(self, plan: Plan, input_: Input, output: Output, told: Told, clock: Clockwork) -> None:
        self._plan, self._input, self._output, self._told, self._clock = plan, input_, output, told, clock
        self._steps = [*reversed(plan.program)]
        self._left = -1.0
        self._echo = b""
        self._wake = 0.0
        self._deadline = FOREVER
        self.read = self.written = 0
        self.seen_end = self.refused = self.exited = False
        self.output_ended = FOREVER

    @property
    def can_act(self) -> bool:
        """Whether it can go on; once that depends on somebody else its patience begins to run out."""
        if self.exited or self._clock.now < self._wake:
            return False
        if not (self._plan.eager or self._told.messages or self._told.closed):
            return False
        if self._can_go_on:
            self._deadline = FOREVER
            return True
        if self._deadline == FOREVER:
            self._deadline = self._clock.now + PATIENCE
        return self._clock.now >= self._deadline

    @property
    def moment(self) -> float:
        if self.exited:
            return FOREVER
        return self._wake if self._wake > self._clock.now else self._deadline

    @property
    def _can_go_on(self) -> bool:
        step = self._steps[-1] if self._steps else None
        if step is None or self._never_begins:
            return True
        if step.what == "write" or self._echo:
            return bool(self._output.ended or self._output.closed or self._output.data.space)
        if step.what in ("read", "echo"):
            return bool(self._input.deaf or self._input.readable)
        return True

    @property
    def _never_begins(self) -> bool:
        return not self._plan.eager and not self._told.messages

    def act(self, size: int) -> None:
        if not self._can_go_on:
            self._steps.clear()
        self._deadline = FOREVER
        if not self._steps or self._never_begins:
            self._exit()
            return
        step = self._steps[-1]
        if self._left < 0:
            self._left = step.number
        match step.what:
            case "pause":
                self._wake = self._clock.now + step.number
                self._done()
            case "close input":
                self._input.end()
                self._done()
            case "close output":
                self._end_output()
                self._done()
            case "read":
                if self._input.deaf or not self._left:
                    self._done()
                    return
                data = self._get(min(size, int(self._left)))
                self._left -= len(data)
                if not (data and self._left):
                    self._done()
            case "write":
                if self._output.ended or not self._left:
                    self._done()
                    return
                self._left -= self._put(min(size, int(self._left)))
                if not self._left:
                    self._done()
            case "echo":
                if self._output.ended or self._input.deaf:
                    self._done()
                elif self._echo:
                    written = self._put(len(self._echo))
                    self._echo = self._echo[written:]
                else:
                    self._echo = bytes(len(self._get(size)))
                    if not self._echo:
                        self._done()

    def _done(self) -> None:
        if self._steps:
            self._steps.pop()
        self._left = -1.0
        self._echo = b""

    def _get(self, size: int) -> bytes:
        data = self._input.get(size)
        if not data:
            self.seen_end = True
        elif data != _REQUEST[self.read : self.read + len(data)]:
            raise Wrong(f"the program got other bytes after {self.read}")
        self.read += len(data)
        return data

    def _put(self, size: int) -> int:
        try:
            written = self._output.put(_ANSWER[self.written : self.written + size])
        except BrokenPipeError:
            self.refused = True
            if self._plan.minds_sigpipe:
                self._steps.clear()
            self._done()
            return 0
        self.written += written
        return written

    def _end_output(self) -> None:
        if not self._output.ended:
            self._output.end()
            self.output_ended = self._clock.now

    def _exit(self) -> None:
        """The kernel closes 0, then 1."""
        if not self._input.deaf:
            self._input.end()
        else:
            self._end_output()
            self.exited = True
