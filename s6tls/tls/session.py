"""A TLS session: moves bytes between its ends and its pump, and follows the table of states.

Each turn moves at most one chunk along each of the four ways, and the turns go on
while something moves.  A session that could go on for long gives way to the others
after a few rounds, and at once when it is a lot of work for few bytes.

Descriptors are watched for room only once there was none.  Otherwise the kernel wakes a session to tell of bytes that
it has read already: the room beside them is a reason for it.

`s6tls.tls.states` says what follows from an end, in whatever order ends come.  This module decides what is a failure:
something was lost or broken.  A client that leaves before it has got all that the program wrote has lost something.
A client that did not wait for our close_notify has not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from s6tls.posix.reactor import BROKEN, ENDED, READABLE, WRITABLE, Reactor, Timer
from s6tls.tls.ends import Ends, FromProgram, Notify, ToProgram
from s6tls.tls.owner import NO_BOUNDS, Owner, Patience
from s6tls.tls.pump import CHUNK, Events, Pump, TLSFailure, fault
from s6tls.tls.states import (
    DELIVERS,
    HAS_SAID_ALL,
    OVER,
    PROGRAM_IS_DONE,
    READS_NETWORK,
    READS_PROGRAM,
    WAITS_FOR_CLIENT,
    WITHOUT_PROGRAM,
    Event,
    Inbound,
    Outbound,
    follow,
)

_ROUNDS = 8
_A_FEW = 4096
"""Bytes; of a client that sends more at once, more has often come by the time that they are handed on."""
_REFUSED_STALL_TIMEOUT = 5.0
"""Seconds where the handshake has failed: all that such a client has to read is an alert."""


class Unwatchable(Exception):
    """A descriptor is of a kind that the kernel cannot watch, such as a plain file; the message says which."""


class Session:
    """Moves bytes until both directions are closed.  With close_notify the program's end ends both."""

    __slots__ = (
        "_deadline",
        "_ends",
        "_failure",
        "_held",
        "_inbound",
        "_net_readable",
        "_net_writable",
        "_outbound",
        "_owner",
        "_program_readable",
        "_program_writable",
        "_pump",
        "_reactor",
        "_short_is_all",
        "_stall_timeout",
        "_timer",
        "_unmoved",
        "_waiting_turn",
    )

    def __init__(self, reactor: Reactor, pump: Pump, ends: Ends, owner: Owner, patience: Patience = NO_BOUNDS) -> None:
        """Start.  Raises Unwatchable, and then the ends are still the caller's."""
        self._reactor, self._pump, self._ends = reactor, pump, ends
        self._owner, self._stall_timeout = owner, patience.stall
        self._inbound, self._outbound = Inbound.OPEN, Outbound.SHAKING
        self._held: set[object] = {ends.network, ends.from_program, ends.to_program, ends.notify}
        self._failure: TLSFailure | None = None
        self._net_readable = self._net_writable = self._program_readable = self._program_writable = True
        self._short_is_all = ends.network.tells_of_end
        self._waiting_turn, self._unmoved = False, -1
        self._timer: Timer | None = None
        for fd, events in ends.network.directions.items():
            self._watch(fd, events, self._net_changed)
        self._watch(ends.from_program.fd, READABLE | ENDED, self._from_program_changed)
        self._watch(ends.to_program.fd, 0, self._to_program_changed)
        self._deadline = self._after(patience.handshake, self._out_of_time)
        self.advance()

    def _watch(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        try:
            self._reactor.watch(fd, events, callback)
        except PermissionError as error:
            raise Unwatchable(f"unable to watch descriptor {fd}: not a socket, pipe or terminal") from error

    # What the reactor tells

    def _net_changed(self, events: int) -> None:
        if events & (READABLE | BROKEN):
            self._net_readable = True
        if events & (ENDED | BROKEN):
            self._short_is_all = False
        if events & (WRITABLE | BROKEN):
            self._net_writable = True
        self.advance()

    def _from_program_changed(self, events: int) -> None:
        self._program_readable = True
        self.advance(Event.PROGRAM_GONE if events & (BROKEN | ENDED) else None)

    def _to_program_changed(self, events: int) -> None:
        self._program_writable = True
        self.advance(Event.PROGRAM_DEAF if events & BROKEN else None)

    def _after(self, seconds: float, act: Callable[[], None]) -> Timer | None:
        """Do so in a while, or never if that is 0; what goes wrong then ends this session and no other."""

        def call() -> None:
            try:
                act()
            except Exception as error:
                self._break_off(error)

        return self._reactor.after(seconds, call) if seconds else None

    def _out_of_time(self) -> None:
        self._fail(TLSFailure("the handshake took too long", during_handshake=True))
        self.advance(Event.ABANDONED)

    def _look_later(self) -> Timer | None:
        return self._after(self._stall_timeout if self._pump.established else _REFUSED_STALL_TIMEOUT, self._look_again)

    def _look_again(self) -> None:
        """See whether a client that is waited for has taken anything since the last look."""
        self._timer = None
        if (self._inbound, self._outbound) not in WAITS_FOR_CLIENT:
            return
        unmoved, self._unmoved = self._unmoved, self._pump.unsent + self._ends.network.unacknowledged()
        if self._unmoved != unmoved:
            self._timer = self._look_later()
            return
        if self._is_owed():
            self._fail(TLSFailure("the peer takes nothing more", not self._pump.established))
        self.advance(Event.STALLED)

    # Moving bytes

    def advance(self, event: Event | None = None) -> None:
        """Take in `event`, then move what can be moved.  What goes wrong in a session ends it, and no other."""
        if self._ends.network not in self._held:
            return
        try:
            if event is not None:
                self._take_in((event,))
            for _ in range(_ROUNDS):
                if not self._move():
                    return
                if self._pump.withheld:
                    break
            self._give_way()
        except Exception as error:
            self._break_off(error)

    def _give_way(self) -> None:
        """Go on after the others have had their turn, once, whatever happens until then."""

        def go_on() -> None:
            self._waiting_turn = False
            self.advance()

        if not self._waiting_turn:
            self._waiting_turn = True
            self._reactor.soon(go_on)

    def _move(self) -> bool:
        """Move a chunk along each way; tell whether anything has changed, and more may follow."""
        pump = self._pump
        moved = (self._net_readable or bool(pump.withheld)) and self._read_network()
        if pump.to_program and self._program_writable:
            moved |= self._write_program()
        if self._program_readable:
            moved |= self._read_program()
        if pump.to_network:
            moved |= self._write_network()
        if self._inbound is Inbound.LAST and not pump.to_program:
            moved |= self._take_in((Event.DELIVERED,))
        if self._outbound is Outbound.LAST and not pump.to_network:
            moved |= self._take_in((Event.SENT,))
        if self._outbound is Outbound.ENDED:
            moved |= self._take_in(self._acknowledged())
        if (self._inbound, self._outbound) == WITHOUT_PROGRAM and self._ends.from_program.has_ended():
            moved |= self._take_in((Event.ABANDONED,))
        return moved

    def _read_network(self) -> bool:
        pump = self._pump
        if self._inbound not in READS_NETWORK or not pump.wants_network:
            return False
        if pump.withheld:
            self._take_in(pump.feed_network(b""))
        else:
            try:
                data = self._ends.network.read(CHUNK)
            except BlockingIOError:
                self._net_readable = False
                return False
            except OSError as error:  # a reset also takes what was on its way to the client
                if self._is_owed():
                    self._fail(TLSFailure(f"unable to read from the network: {error.strerror}", False))
                self._network_ended("is gone")
            else:
                if self._short_is_all and len(data) < _A_FEW:  # the kernel tells of what follows
                    self._net_readable = False
                if not data:
                    self._network_ended("closed the connection")
                elif self._inbound is Inbound.OPEN or self._outbound not in HAS_SAID_ALL:
                    self._take_in(pump.feed_network(data))
        if self._inbound is Inbound.DROPPING:
            pump.to_program.clear()
        return True

    def _network_ended(self, how: str) -> None:
        self._take_in(self._pump.end_network(how))
        self._take_in((Event.NETWORK_ENDED,))

    def _write_program(self) -> bool:
        if self._inbound not in DELIVERS:
            return False
        try:
            self._pump.delivered(self._ends.to_program.write(self._pump.to_program))
        except BlockingIOError:
            self._program_writable = False
            self._reactor.rewatch(self._ends.to_program.fd, WRITABLE)
            return False
        except OSError:
            self._take_in((Event.PROGRAM_DEAF,))
        return True

    def _read_program(self) -> bool:
        if not (self._outbound in READS_PROGRAM and self._pump.wants_program):
            return False
        try:
            data = self._ends.from_program.read(CHUNK)
        except BlockingIOError:
            self._program_readable = False
            return False
        self._take_in(self._pump.feed_program(data))
        return True

    def _write_network(self) -> bool:
        pump = self._pump
        if self._outbound in HAS_SAID_ALL:
            pump.drop()
        if not (pump.to_network and self._net_writable):
            return False
        try:
            pump.sent(self._ends.network.write(pump.to_network))
        except BlockingIOError:
            self._net_writable = False
            self._reactor.rewatch(*self._ends.network.room)
            return False
        except OSError as error:
            if self._is_owed():
                self._fail(TLSFailure(f"unable to write to the network: {error.strerror}", not pump.established))
            self._take_in((Event.UNSENDABLE,))
        return True

    def _acknowledged(self) -> Events:
        network = self._ends.network
        if network.is_settled():
            if self._is_owed():
                self._fail(TLSFailure("the peer is gone before it had everything", during_handshake=False))
            return (Event.UNSENDABLE,)
        return () if network.unacknowledged() else (Event.ACKNOWLEDGED,)

    def _is_owed(self) -> bool:
        """Tell whether the client has not had all that the program wrote."""
        if self._pump.owed:
            return True
        if self._outbound in READS_PROGRAM and self._ends.from_program.unread():
            return True
        end_of_file = self._outbound in HAS_SAID_ALL
        return self._ends.network.unsent() > self._pump.sent_since + end_of_file

    # What follows

    def _take_in(self, events: Events) -> bool:
        """Act on what has happened; tell whether it changed anything."""
        changed = False
        for event in events:
            if event is Event.SHAKEN:
                _cancel(self._deadline)
                self._notify()
            elif event in (Event.CLIENT_ENDED, Event.BROKEN):
                _cancel(self._deadline)
                self._judge(event)
            changed |= self._follow(event)
            if event is Event.SHAKEN and self._outbound is Outbound.OPEN and self._ends.from_program.writer_is_gone():
                self._follow(Event.PROGRAM_GONE)
        if self._outbound in HAS_SAID_ALL and self._pump.deaf:  # not before: who hears of it could send in clear
            self._let_go(self._ends.notify)
        return changed

    def _notify(self) -> None:
        notify = self._ends.notify
        if notify is not None:
            try:
                notify.tell(self._owner.report(self._pump))
            except OSError as error:
                self._fail(TLSFailure(f"unable to notify: {error.strerror}", during_handshake=True))
                self._take_in((Event.PROGRAM_DEAF, Event.BROKEN))
            self._let_go(notify)

    def _judge(self, event: Event) -> None:
        """Fail with the pump, unless the program has nothing to lose by it."""
        if self._pump.failure is None:
            return
        to_program = self._ends.to_program
        if self._outbound in HAS_SAID_ALL and to_program in self._held and to_program.reader_is_gone():
            self._follow(Event.PROGRAM_DEAF)
        unheard = event is Event.CLIENT_ENDED and self._inbound not in DELIVERS
        if not unheard and (self._inbound, self._outbound) not in PROGRAM_IS_DONE:
            self._fail(self._pump.failure)

    def _follow(self, event: Event) -> bool:
        """Go from state to state; tell whether they differ."""
        inbound, outbound = self._inbound, self._outbound
        self._inbound, self._outbound = follow(inbound, outbound, event, self._pump.close_notify)
        if (inbound, outbound) == (self._inbound, self._outbound):
            return False
        if self._inbound is not inbound and self._inbound not in DELIVERS:
            self._let_go(self._ends.to_program)
            self._pump.to_program.clear()
        if self._outbound is not outbound:
            self._outbound_changed(outbound)
        if (self._inbound, self._outbound) == OVER:
            self._end()
        elif self._timer is None and (self._inbound, self._outbound) in WAITS_FOR_CLIENT:
            self._unmoved = -1
            self._timer = self._look_later()
        return True

    def _outbound_changed(self, before: Outbound) -> None:
        if self._outbound not in READS_PROGRAM:
            self._let_go(self._ends.from_program)
        if self._outbound in HAS_SAID_ALL and before not in HAS_SAID_ALL:
            self._pump.drop()
            network = self._ends.network
            network.end_output(self._reactor.forget)
            if self._outbound is Outbound.ENDED and not network.is_settled():  # it tells when the client has it
                self._reactor.rewatch(*network.room)

    def _fail(self, failure: TLSFailure) -> None:
        if self._failure is None:
            self._failure = failure
            self._owner.failed(failure)

    def _break_off(self, error: Exception) -> None:
        """Let go of everything: what went wrong here is not a client's doing, and nothing can be relied on."""
        if self._ends.network in self._held:
            self._inbound, self._outbound = OVER
            self._end(error)

    def _end(self, error: Exception | None = None) -> None:
        """Let go of everything, whatever goes wrong with a part of it, and say so."""
        _cancel(self._deadline)
        _cancel(self._timer)
        ends, network = self._ends, self._ends.network
        self._held.discard(network)
        for step in (
            partial(self._let_go, ends.notify),
            partial(self._let_go, ends.to_program),
            partial(self._let_go, ends.from_program),
            partial(self._reactor.forget, network.reading),
            partial(self._reactor.forget, network.writing),  # may be the same, which does no harm
            network.close,
        ):
            try:
                step()
            except Exception as another:
                error = error or another
        if error is not None:
            self._fail(fault(error, during_handshake=not self._pump.established))
        self._owner.ended()

    def _let_go(self, end: ToProgram | FromProgram | Notify | None) -> None:
        if end is not None and end in self._held:
            self._held.discard(end)
            try:
                self._reactor.forget(end.fd)
            finally:
                end.close()


def _cancel(timer: Timer | None) -> None:
    if timer is not None:
        timer.cancel()
