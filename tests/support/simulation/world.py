"""One session, the client and the program around it, and how things take their course."""

from __future__ import annotations

import random
from dataclasses import dataclass

from s6tls.tls.owner import Owner, Patience
from s6tls.tls.pump import MOST_TO_NETWORK, MOST_TO_PROGRAM, TLSFailure
from s6tls.tls.session import Session
from tests.support.simulation import judge
from tests.support.simulation.actors import Peer, Program, Wrong
from tests.support.simulation.clockwork import Calls, Clockwork
from tests.support.simulation.ends import CountedPump, Input, Output, SimulatedEnds, Told, make_one_socket
from tests.support.simulation.network import Connection
from tests.support.simulation.plans import FOREVER, STALL_TIMEOUT, Plan
from tests.support.tls.memory import server_context

_MOST_TURNS = 100_000
_CHUNK = 65536


@dataclass
class Outcome:
    """How things stood when the session ended: what had arrived here and there, and whether the client was `gone`."""

    now: float
    arrived: int
    gone: bool
    written: int
    answered: int
    calls: int
    program_gone: bool


class World:
    """One session and everybody around it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._rng = rng = random.Random(plan.order)
        self.calls = calls = Calls(plan.fault, plan.error)
        self.clock = clock = Clockwork(calls, rng)
        send, receive, client, into, out = plan.capacities
        self.connection = Connection(clock, calls, send, receive, client)
        self.output, self.input, self.told = Output(clock, calls, out), Input(clock, calls, into), Told(calls)
        if plan.sockets:
            make_one_socket(self.output, self.input, clock)
        self.peer = Peer(plan, self.connection, clock, rng)
        self.program = Program(plan, self.input, self.output, self.told, clock)
        self.failures: list[TLSFailure] = []
        self.outcomes: list[Outcome] = []
        self.leftovers = False
        self.stalled = False
        """Whether the client took nothing for so long, while it was all there was to wait for, that it may be left."""
        self.said_when_done = -1
        """What the client had said when nobody was left who could lose anything by it; -1 if that never was so."""
        self.gone_when_done = False
        self.deaf_when_gone = False
        """Whether the program had stopped to read before the client ended, and the session could know it."""
        self.last_moment = 0.0
        """When last something happened that the session did not do by itself."""
        self.taken_away = 0.0
        """When last something of ours has left for the client."""
        self._turns = 0
        self._closed_output = FOREVER
        self._pump = CountedPump(server_context(), plan.close_notify, plan.demand)
        self._pump.calls = calls

    def run(self) -> None:
        """Let everything happen, then judge.  Raises Wrong, and what the session raises."""
        plan, calls = self.plan, self.calls
        ends = SimulatedEnds(self.connection, self.output, self.input, self.told)
        try:
            owner = Owner(lambda pump: b"established", self.failures.append, self._ended)
            Session(self.clock, self._pump, ends, owner, Patience(plan.timeout, STALL_TIMEOUT))
        except Exception:
            if calls.faulty not in ("watch", "after"):
                raise
            return  # then the ends are still the caller's
        while self._go_on():
            self._turns += 1
            if self._turns > _MOST_TURNS:
                raise Wrong("the session goes round and round")
        judge.after_all(self)

    @property
    def shaken(self) -> bool:
        """Whether the client's part of the handshake has arrived."""
        peer = self.peer
        arrived = self.outcomes[0].arrived if self.outcomes else self.connection.arrived
        return not peer.shaking and peer.handshake <= self.plan.cut and arrived >= peer.handshake

    def _ended(self) -> None:
        connection = self.connection
        gone = connection.end_arrived or (connection.dead and not connection.we_reset)
        self.outcomes.append(
            Outcome(
                self.clock.now,
                connection.arrived,
                gone,
                self.program.written,
                self.peer.answer_arrived,
                self.calls.count,
                self.input.deaf and self.output.ended,
            )
        )
        self.leftovers |= bool(self.clock.watched) or self.clock.next_moment() is not None

    def _go_on(self) -> bool:
        """Do one thing that can be done, or let time pass; tell whether there was any."""
        connection, peer, program, paces = self.connection, self.peer, self.program, self.plan.paces
        can = (
            paces[0] if peer.can_act else 0,
            paces[1] if connection.can_bring else 0,
            paces[2] if connection.can_take_away else 0,
            paces[3] if peer.can_read else 0,
            paces[4] if program.can_act else 0,
            paces[5] if self.clock.has_work else 0,
        )
        total = sum(can)
        if not total:
            return self._let_time_pass()
        chosen = self._rng.random() * total
        which = 0
        while chosen >= can[which]:
            chosen -= can[which]
            which += 1
        match which:
            case 0:
                self._before_act()
                peer.act()
            case 1:
                connection.bring(self._some(len(connection.sent)))
            case 2:
                self.taken_away = self.clock.now
                connection.take_away(self._some(len(connection.unacked)), self._rng.randrange(len(connection.sent) + 1))
            case 3:
                peer.read(self._some(len(connection.at_client)))
            case 4:
                program.act(self._some(_CHUNK))
            case _:
                self._turn()
                return True
        self.last_moment = self.clock.now
        return True

    def _some(self, there: int) -> int:
        """How many bytes move, of so many: more and more, so that the end is reached."""
        return max(self._rng.randrange(1, 2 * self.plan.grain + 1), there // 50, self._turns // 4)

    def _turn(self) -> None:
        self.clock.turn()
        pump = self._pump
        if self.calls.misused:
            raise Wrong(f"{self.calls.misused} was called after the end, or with nothing")
        if pump.unsent > MOST_TO_NETWORK or sum(map(len, pump.to_program)) > MOST_TO_PROGRAM:
            raise Wrong("the session holds more than it may")

    def _before_act(self) -> None:
        """Note what the session must know of before the client does the next thing."""
        if self.said_when_done < 0 and self.peer.seen_end and self.program.exited:
            self.said_when_done = self.peer.meaning.said
            self.gone_when_done = bool(self.connection.ended)
        if not self.connection.ended:
            could_know = self.output.ended or not self.plan.sockets
            self.deaf_when_gone = self.input.deaf and could_know and not self.clock.has_work

    def _let_time_pass(self) -> bool:
        """Nobody can do anything now: go to the next moment when somebody can."""
        clock = self.clock
        moment = clock.next_moment()
        then = min(self.peer.moment, self.program.moment, FOREVER if moment is None else moment)
        if not self.outcomes:
            judge.at_rest(self, then)
            if then == FOREVER:
                raise Wrong("the session waits for nobody, and never ends")
        if self.output.closed and self._closed_output == FOREVER:
            self._closed_output = clock.now
        waited_since = max(min(self._closed_output, self.program.output_ended), self.taken_away)
        has_all = self.connection.client_heard_end and not self.input.closed
        self.stalled |= not (self.outcomes or has_all) and then - waited_since >= STALL_TIMEOUT
        clock.now = then
        return then < FOREVER
