"""The other ends of a session in memory: the program's pipes, as Linux has them; and a pump whose calls count."""

from __future__ import annotations

from collections import deque
from select import EPOLLERR, EPOLLHUP, EPOLLRDHUP

from s6tls.posix.reactor import READABLE, WRITABLE
from s6tls.tls.ends import Ends, FromProgram, Notify, ToProgram
from s6tls.tls.pump import Events, Pump
from tests.support.simulation.clockwork import FROM_PROGRAM, NOTIFY, TO_PROGRAM, Buffer, Calls, Clockwork
from tests.support.simulation.network import Connection


class Output(FromProgram):
    """The pipe that the program writes to."""

    __slots__ = ("_calls", "_reactor", "closed", "data", "ended", "wakes")

    def __init__(self, reactor: Clockwork, calls: Calls, capacity: int) -> None:
        super().__init__(FROM_PROGRAM)
        self._reactor, self._calls = reactor, calls
        reactor.polls[FROM_PROGRAM] = lambda: (READABLE if self.data else 0) | (EPOLLHUP if self.ended else 0)
        self.data = Buffer(capacity)
        self.closed, self.ended = 0, False
        self.wakes = {FROM_PROGRAM}

    def read(self, size: int) -> bytes:
        self._calls.made("from_program.read", not self.closed)
        if self.data or self.ended:
            return self.data.take(size)
        raise BlockingIOError

    def unread(self) -> int:
        self._calls.made("from_program.unread", not self.closed)
        return len(self.data)

    def writer_is_gone(self) -> bool:
        self._calls.made("from_program.writer_is_gone", not self.closed)
        return self.ended

    def has_ended(self) -> bool:
        self._calls.made("from_program.has_ended", not self.closed)
        return self.ended and not self.data

    def close(self) -> None:
        self.closed += 1
        _wake(self._reactor, self.wakes - {FROM_PROGRAM})
        self._calls.made("from_program.close")

    def put(self, data: bytes) -> int:
        """The program writes, and waits for no space.  Raises BrokenPipeError."""
        assert not self.ended
        if self.closed:
            raise BrokenPipeError
        self._reactor.touch(FROM_PROGRAM)
        return self.data.put_some((data,))

    def end(self) -> None:
        """The program closes it."""
        self.ended = True
        _wake(self._reactor, self.wakes)


class Input(ToProgram):
    """The pipe that the program reads from."""

    __slots__ = ("_calls", "_reactor", "closed", "data", "deaf", "wakes")

    def __init__(self, reactor: Clockwork, calls: Calls, capacity: int) -> None:
        super().__init__(TO_PROGRAM)
        self._reactor, self._calls = reactor, calls
        reactor.polls[TO_PROGRAM] = lambda: (WRITABLE if self.data.space else 0) | (EPOLLERR if self.deaf else 0)
        self.data = Buffer(capacity)
        self.closed, self.deaf = 0, False
        self.wakes = {TO_PROGRAM}

    def write(self, chunks: deque[bytes]) -> int:
        self._calls.made("to_program.write", not self.closed and all(chunks))
        if self.deaf:
            raise BrokenPipeError
        if not self.data.space:
            raise BlockingIOError
        return self.data.put_some(chunks)

    def reader_is_gone(self) -> bool:
        self._calls.made("to_program.reader_is_gone", not self.closed)
        return self.deaf

    def close(self) -> None:
        self.closed += 1
        _wake(self._reactor, self.wakes - {TO_PROGRAM})
        self._calls.made("to_program.close")

    @property
    def readable(self) -> bool:
        """Whether the program need not wait for bytes or the end of file."""
        return bool(self.data or self.closed)

    def get(self, size: int) -> bytes:
        """The program reads what is there; nothing is the end of file."""
        was_full = not self.data.space
        data = self.data.take(size)
        if was_full:
            self._reactor.touch(TO_PROGRAM)
        return data

    def end(self) -> None:
        """The program closes it."""
        self.deaf = True
        _wake(self._reactor, self.wakes)


def _wake(reactor: Clockwork, fds: set[int]) -> None:
    for fd in fds:
        reactor.touch(fd)


def make_one_socket(output: Output, input_: Input, reactor: Clockwork) -> None:
    """Have two pipes tell of their ends as the two directions of one socket do."""

    def gone() -> int:
        return EPOLLHUP if (output.ended or output.closed) and (input_.deaf or input_.closed) else 0

    reactor.polls[FROM_PROGRAM] = lambda: (
        (READABLE if output.data or output.ended else 0) | (EPOLLRDHUP if output.ended else 0) | gone()
    )
    reactor.polls[TO_PROGRAM] = lambda: (WRITABLE if input_.data.space else 0) | gone()
    output.wakes = input_.wakes = {FROM_PROGRAM, TO_PROGRAM}


class Told(Notify):
    """Where the end of the handshake is told."""

    __slots__ = ("_calls", "closed", "messages")

    def __init__(self, calls: Calls) -> None:
        super().__init__(NOTIFY)
        self._calls = calls
        self.messages: list[bytes] = []
        self.closed = 0

    def tell(self, message: bytes) -> None:
        self._calls.made("notify.tell", not self.closed)
        self.messages.append(message)

    def close(self) -> None:
        self.closed += 1
        self._calls.made("notify.close")


class SimulatedEnds(Ends):
    """All of these."""

    def __init__(self, network: Connection, output: Output, input_: Input, told: Told) -> None:
        self.network, self.from_program, self.to_program, self.notify = network, output, input_, told


class CountedPump(Pump):
    """A pump whose calls count, too."""

    __slots__ = ("calls",)

    calls: Calls

    def feed_network(self, data: bytes) -> Events:
        self.calls.made("pump.feed_network")
        return super().feed_network(data)

    def end_network(self, how: str) -> Events:
        self.calls.made("pump.end_network")
        return super().end_network(how)

    def feed_program(self, data: bytes) -> Events:
        self.calls.made("pump.feed_program")
        return super().feed_program(data)

    def sent(self, count: int) -> None:
        self.calls.made("pump.sent")
        super().sent(count)

    def drop(self) -> None:
        self.calls.made("pump.drop")
        super().drop()

    def delivered(self, count: int) -> None:
        self.calls.made("pump.delivered")
        super().delivered(count)
