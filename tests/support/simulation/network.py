"""A TCP connection in memory, as Linux has it where a session can tell."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from select import EPOLLERR, EPOLLHUP, EPOLLRDHUP

from s6tls.posix.reactor import READABLE, WRITABLE
from s6tls.tls.ends import Network
from tests.support.simulation.clockwork import NET, Buffer, Calls, Clockwork


class Connection(Network):
    """A TCP connection: the server's end as a session sees it, and the client's as its kernel does.

    `sent` are the client's bytes that are on their way to us, `ended` what comes after them: "", "end" or "reset".
    """

    __slots__ = (
        "_calls",
        "_error",
        "_no_space",
        "_reactor",
        "arrived",
        "at_client",
        "client_closed",
        "client_heard_end",
        "client_heard_reset",
        "closed",
        "dead",
        "end_arrived",
        "end_said",
        "ended",
        "reader",
        "received",
        "sent",
        "unacked",
        "we_reset",
    )

    def __init__(
        self, reactor: Clockwork, calls: Calls, send_space: int, receive_space: int, client_space: int
    ) -> None:
        self.reading = self.writing = NET
        self._reactor, self._calls = reactor, calls
        reactor.polls[NET] = self._poll
        self.received, self.unacked = Buffer(receive_space), Buffer(send_space)
        self.sent, self.ended = Buffer(), ""
        self.arrived = self.closed = 0
        self.at_client = Buffer(client_space)
        self.reader: Callable[[bytes], object] = lambda _: None
        """Is told what arrives at the client's kernel."""
        self.end_said = self.client_heard_end = self.client_heard_reset = self.client_closed = False
        self.end_arrived = self.dead = self.we_reset = self._no_space = False
        self._error = 0

    # What a session does

    def read(self, size: int) -> bytes:
        self._calls.made("network.read", not self.closed)
        if self.received:
            return self.received.take(size)
        if self.end_arrived:
            return b""
        self._raise_error()
        if self.dead:
            return b""
        raise BlockingIOError

    def write(self, chunks: deque[bytes]) -> int:
        self._calls.made("network.write", not self.closed and all(chunks))
        self._raise_error()
        if self.dead or self.end_said:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        if not self.unacked.space:
            self._no_space = True
            raise BlockingIOError
        return self.unacked.put_some(chunks)

    def unacknowledged(self) -> int:
        self._calls.made("network.unacknowledged", not self.closed)
        return len(self.unacked) + (self.end_said and not self.client_heard_end)

    def unsent(self) -> int:
        self._calls.made("network.unsent", not self.closed)
        return len(self.unacked) + (self.end_said and not self.client_heard_end)

    def is_settled(self) -> bool:
        self._calls.made("network.is_settled", not self.closed)
        return self.dead or (self.end_arrived and self.client_heard_end)

    @property
    def tells_of_end(self) -> bool:
        return True

    def end_output(self, forget: Callable[[int], object]) -> None:
        self.end_said = True
        self._calls.made("network.end_output")

    def close(self) -> None:
        self.closed += 1
        self.end_said = True
        if self.received:
            self._reset_client()
        self._calls.made("network.close")

    def _raise_error(self) -> None:
        error, self._error = self._error, 0
        if error:
            raise OSError(error, os.strerror(error))

    def _poll(self) -> int:
        readable = self.received or self.end_arrived or self.dead
        writable = self.dead or self.end_said or self._roomy
        found = (READABLE if readable else 0) | (WRITABLE if writable else 0)
        if self.end_arrived or self.dead:
            found |= EPOLLRDHUP
        if self._error:
            found |= EPOLLERR
        if self.dead or (self.end_arrived and self.end_said):
            found |= EPOLLHUP
        return found

    @property
    def _roomy(self) -> bool:
        return 3 * self.unacked.space >= self.unacked.capacity

    # What the network does

    @property
    def can_bring(self) -> bool:
        """Whether something of the client's is under way and may arrive."""
        if self.dead:
            return False
        if self.sent and self.ended != "reset":
            return bool(self.closed or self.received.space)
        return bool(self.sent) or (self.ended == "end" and not self.end_arrived) or self.ended == "reset"

    def bring(self, size: int) -> None:
        """Let at most `size` of the client's bytes arrive, or its end."""
        if self.closed and self.sent and self.ended != "reset":
            self._reset_client()
        elif self.sent and self.received.space and not self.closed:
            data = self.sent.take(min(size, self.received.space))
            self.arrived += len(data)
            self.received.put(data)
        elif self.ended == "reset":
            self.dead = True
            self._error = errno.EPIPE if self.end_arrived else errno.ECONNRESET
        else:
            self.end_arrived = True
        self._reactor.touch(NET)

    @property
    def can_take_away(self) -> bool:
        """Whether something of ours is under way and may arrive at the client."""
        if self.dead or self.client_heard_reset or self.ended == "reset":
            return False
        if self.unacked:
            return bool(self.client_closed or self.at_client.space)
        return self.end_said and not self.client_heard_end

    def take_away(self, size: int, kept: int) -> None:
        """Let at most `size` of our bytes arrive, or our end; of a client that is gone so many bytes come yet."""
        if not self.unacked:
            self.client_heard_end = True
            self._reactor.touch(NET)
        elif self.client_closed:
            self.reset(kept)
        else:
            data = self.unacked.take(min(size, self.at_client.space))
            self.at_client.put(data)
            self.reader(data)
            if self._no_space and self._roomy:
                self._no_space = False
                self._reactor.touch(NET)

    def _reset_client(self) -> None:
        """A packet for a closed socket, or bytes in one when it was closed: the client loses what it has not read."""
        self.client_heard_reset = True
        self.we_reset = True
        self.dead = True
        self.sent.keep(0)
        self.at_client.keep(0)
        self.unacked.keep(0)

    # What the client does

    def say(self, data: bytes) -> None:
        if not (self.ended or self.client_heard_reset):
            self.sent.put(data)

    def end(self) -> None:
        """Shut down for writing."""
        self.ended = self.ended or "end"

    def reset(self, kept: int) -> None:
        """Reset the connection; of what is under way so many bytes arrive."""
        self.ended = "reset"
        self.client_closed = True
        self.sent.keep(kept)

    def close_client(self, kept: int) -> None:
        """Close, which is a reset if something is unread."""
        if self.at_client:
            self.reset(kept)
        self.end()
        self.client_closed = True
