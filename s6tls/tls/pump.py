"""One TLS session as bytes in, bytes and events out.  No descriptors, no waiting.

The TLS library is given two memory buffers in place of a socket.  Everything the
network sent goes into one; everything that must be sent comes out of the other.
Between them stands the program, which is two more streams of bytes.  The pump
owns the moments where such proxies lose data:

- **The library holds what the descriptor no longer shows.**  One read from the
  network can hold many records.  So input is decrypted until the library
  itself asks for more; "nothing to read on the socket" does not mean
  "nothing to read".
- **What came before a failure is valid.**  One read can hold good records and a bad one.  A
  failure is an event that comes after the bytes before it, never an exception that overtakes them.
- **Bounded memory.**  The session feeds one chunk at a time and only while the pump
  `wants` it: the network while the program has taken all that was decrypted,
  the program while the network has taken all that was encrypted.  What a peer can
  make the library itself send (answers to key updates) is bounded by `_TOO_MUCH`:
  beyond that, the network is not read until the peer has read.
- **Bounded work.**  A record can be tiny, and a key update in it costs as much as a large one.  Only a limited
  number of records is taken at once; `withheld` is the rest of the chunk, and other sessions get their turn first.

The two directions never wait for each other in any other way: a client that sends
without reading still gets its bytes to the program.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from s6tls.tls import policy
from s6tls.tls.library import MOST_GIVEN, RECORD, Closed, LibraryError
from s6tls.tls.states import Event
from s6tls.tls.wire import Boundaries

if TYPE_CHECKING:
    from OpenSSL import SSL

CHUNK = 65536
"""Bytes to read at once from either side."""

RECORDS = 64
"""Records to take in at once: of the largest there are four in a chunk, of the smallest thousands."""

_TOO_MUCH = 4 * CHUNK

MOST_TO_PROGRAM = CHUNK + RECORD
"""Bytes that `to_program` may come to: a chunk, and the record that it completes."""

MOST_TO_NETWORK = _TOO_MUCH + 2 * CHUNK
"""Bytes that `to_network` may come to: a chunk from each side may be added to not quite too much."""

Events = tuple[Event, ...]


class TLSFailure(Exception):
    """The session broke; the message says how, `during_handshake` when, and `ours` that the client did not do it."""

    def __init__(self, message: str, during_handshake: bool, ours: bool = False) -> None:
        super().__init__(message)
        self.during_handshake, self.ours = during_handshake, ours


def fault(error: Exception, during_handshake: bool) -> TLSFailure:
    """Return the failure that an exception of ours is to its session."""
    reason = "out of memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
    return TLSFailure(reason, during_handshake, ours=True)


class Pump:
    """A server-side session over memory.

    `to_network` and `to_program` hold what is to be written; the session removes from
    them what it has written.  There are `unsent` bytes in `to_network`, and the first `owed` of them carry what the
    program wrote; `sent_since` were sent after the last such byte.  `connection` is the library's session, for
    questions about it.  Once `deaf`, the pump has heard the client's end, or a `failure`, and takes in nothing more.
    """

    __slots__ = (
        "_boundaries",
        "_context",
        "_demand_close_notify",
        "_program_ended",
        "_said",
        "close_notify",
        "connection",
        "deaf",
        "established",
        "failure",
        "owed",
        "sent_since",
        "to_network",
        "to_program",
        "unsent",
        "withheld",
    )

    def __init__(self, context: SSL.Context, close_notify: bool = False, demand_close_notify: bool = False) -> None:
        self.connection = policy.new_session(context)
        self._context = context
        self.close_notify = close_notify
        self._demand_close_notify = demand_close_notify
        self._boundaries = Boundaries()
        self._said: bytes | None = b""  # until it has been answered
        self.established = self.deaf = self._program_ended = False
        self.failure: TLSFailure | None = None
        self.to_network: deque[bytes] = deque()
        self.to_program: deque[bytes] = deque()
        self.unsent = self.owed = self.sent_since = 0
        self.withheld = b""

    @property
    def wants_network(self) -> bool:
        """Whether the next chunk from the network may be fed."""
        return self.deaf or not (self.to_program or self.unsent >= _TOO_MUCH)

    @property
    def wants_program(self) -> bool:
        """Whether the next chunk from the program may be fed."""
        return not self.to_network

    def feed_network(self, data: bytes) -> Events:
        """Take in what the network sent, after what was withheld; return what has happened, in that order."""
        if self.deaf:
            return ()
        data = self.withheld + data if self.withheld else data
        passed = self._boundaries.pass_over(data, RECORDS)
        self.withheld = data[passed:]
        was_established = self.established
        try:
            heard = data[:passed] if was_established else self._greeted(data[:passed])
            self.connection.take(heard)
            events = self._take_in()
        except Closed:
            events = self._hear_end(Event.CLIENT_ENDED)
        except LibraryError as error:
            events = self._not_understood(error)
        self._collect()
        if self.to_network:
            self._said = None
        return (Event.SHAKEN, *events) if self.established and not was_established else events

    def end_network(self, how: str) -> Events:
        """Take in the network's end; `how` is what the peer did.  Return what has happened."""
        if self.deaf:
            return ()
        if not self.established:
            return self._fail(TLSFailure(f"the peer {how}", during_handshake=True))
        if self._demand_close_notify:
            return self._fail(TLSFailure(f"the peer {how} without close_notify", during_handshake=False))
        if self._boundaries.within:
            self.failure = TLSFailure(f"the peer {how} within a record", during_handshake=False)
        return self._hear_end(Event.CLIENT_ENDED)

    def feed_program(self, data: bytes) -> Events:
        """Take in what the program wrote; b"" is its end of file.  Return what has happened."""
        self._program_ended = not data
        try:
            if data:
                self.connection.write(data)
            elif self.close_notify:
                self.connection.close()
        except LibraryError as error:
            return self._fail(TLSFailure(str(error), during_handshake=False))
        self._collect()
        if self._program_ended:
            return (Event.PROGRAM_ENDED,)
        self.owed = self.unsent
        return ()

    def sent(self, count: int) -> None:
        """Remove `count` bytes from the front of `to_network`: they are on their way."""
        self.sent_since = max(0, count - self.owed) if self.owed else self.sent_since + count
        self.owed = max(0, self.owed - count)
        self.unsent -= count
        _consume(self.to_network, count)

    def drop(self) -> None:
        """Forget what is to be sent: nobody can be reached."""
        self.to_network.clear()
        self.unsent = self.owed = 0

    def delivered(self, count: int) -> None:
        """Remove `count` bytes from the front of `to_program`: it has them."""
        _consume(self.to_program, count)

    def _greeted(self, data: bytes) -> bytes:
        """Return what to give to the library, having looked at it.  Raises LibraryError.

        A client that shows a ticket of the key before is served by the context before: we have not answered yet, so it
        does not notice that we begin again.
        """
        if self._said is None:
            return data
        self._said += data
        if len(self._said) > CHUNK:
            raise LibraryError("the first message is too long")
        before = policy.of(self._context).predecessor
        if before is None or before.key_name not in self._said:
            return data
        self._begin_again(before.context)
        return self._said

    def _begin_again(self, context: SSL.Context) -> None:
        self._context, self.connection = context, policy.new_session(context)

    def _shake_hands(self) -> bool:
        """Tell whether the handshake is done.  Raises LibraryError, Closed.

        A client that goes on with a session of another name begins one of its own: nor does it notice that.
        """
        done = self.connection.shake_hands()
        if self._said is not None and policy.has_another_name(self.connection, self._said):
            self._begin_again(self._context)
            self.connection.refuse_tickets()
            self.connection.take(self._said)
            done = self.connection.shake_hands()
        return done

    def _take_in(self) -> Events:
        """Have the library do what it can.  Raises LibraryError, Closed."""
        if not self.established:
            if not self._shake_hands():
                return ()
            if reason := policy.rejection_reason(self.connection):
                return self._fail(TLSFailure(reason, during_handshake=True))
            self.established = True
        connection = self.connection
        while data := connection.read():
            self.to_program.append(data)
        return ()

    def _not_understood(self, error: LibraryError) -> Events:
        """Tell a failure from an end."""
        if self._has_half_closed and self.connection.has_heard_end:  # by an alert
            return self._hear_end(Event.CLIENT_ENDED)
        told = ": ".join(filter(None, (policy.explained(self.connection, str(error)), self.connection.verify_error)))
        return self._fail(TLSFailure(told, during_handshake=not self.established))

    @property
    def _has_half_closed(self) -> bool:
        """Whether the client has had an end of file without close_notify: OpenSSL and Java answer that by an alert."""
        return self._program_ended and not (self.unsent or self.close_notify or self._demand_close_notify)

    def _fail(self, failure: TLSFailure) -> Events:
        self.failure = failure
        return self._hear_end(Event.BROKEN)

    def _hear_end(self, event: Event) -> Events:
        self.deaf = True
        self.withheld = b""
        return (event,)

    def _collect(self) -> None:
        """Move pending ciphertext into `to_network`."""
        while data := self.connection.give():
            self.to_network.append(data)
            self.unsent += len(data)
            if len(data) < MOST_GIVEN:
                break


def _consume(chunks: deque[bytes], count: int) -> None:
    while count:
        first = chunks[0]
        if len(first) > count:
            chunks[0] = first[count:]
            return
        count -= len(first)
        chunks.popleft()
