"""What must be true of a session, when everybody waits and after all: the model, which knows nothing of its states.

The program gets exactly the valid bytes before the first failure, the client what the program wrote, as long as it can
read.  There is a failure if, and only if, something was lost or broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tests.support.simulation.actors import Wrong
from tests.support.simulation.plans import FOREVER, STALL_TIMEOUT

if TYPE_CHECKING:
    from tests.support.simulation.world import Outcome, World

_MAY_FAIL = ("network.read", "network.write", "to_program.write", "pump.sent", "pump.delivered")
_LONGEST = 4 * STALL_TIMEOUT
"""Seconds that a session may go on when everybody else has done everything."""


def at_rest(world: World, until: float) -> None:
    """Nothing moves until a moment, and the session goes on.  Raises Wrong."""
    connection, program, input_, output = world.connection, world.program, world.input, world.output
    if world.calls.faulty:
        return
    if program.exited and until > world.last_moment + _LONGEST + world.plan.timeout:
        raise Wrong("the session goes on long after everybody else")
    if not world.shaken:
        if program.exited and not program.written and not world.failures:
            raise Wrong("the session waits for a handshake that nobody needs")
        return
    program_gone = input_.deaf and output.ended
    if program_gone and (connection.dead or (connection.end_arrived and connection.client_heard_end)):
        raise Wrong("both sides have ended, and the session does not")
    valid, end, _ = world.peer.meaning.of(connection.arrived, world.peer.handshake)
    waited = until - max(program.output_ended, world.taken_away)
    owed = input_.data and program.read + len(input_.data) < valid
    if connection.unacked and waited > _LONGEST and not (input_.closed or input_.deaf or owed):
        raise Wrong("the program, which has ended its output, waits for a client that takes nothing")
    if connection.dead or connection.ended == "reset" or not connection.at_client.space:
        return  # nothing can be sent, and so the session need not read what it would have to answer
    if not output.closed:
        if output.data:
            raise Wrong("what the program wrote is not sent, though the client takes it")
        if output.ended:
            raise Wrong("the program has ended, and the session does not know")
    elif not connection.end_said:
        raise Wrong("the client waits for the end of file")
    if input_.data:
        return  # the program has to read first
    if connection.received and not input_.closed:
        raise Wrong("what the client sent is not read")
    if not input_.closed and not input_.deaf:
        if program.read < valid:
            raise Wrong("the program could not read what had come")
        if end or connection.end_arrived:
            raise Wrong("the program waits for the end of file")
        if world.plan.close_notify and output.ended:
            raise Wrong("the program waits for the end of file, which comes with its own end")


def after_all(world: World) -> None:
    """Everybody has ended.  Raises Wrong."""
    ends = world.connection, world.output, world.input, world.told
    if any(end.closed != 1 for end in ends) or len(world.outcomes) != 1 or world.leftovers:
        raise Wrong("an end was not closed just once, or something goes on after the end")
    if len(world.failures) > 1 or len(world.told.messages) > 1:
        raise Wrong("failed or told twice")
    outcome = world.outcomes[0]
    ordinary = world.plan.error is OSError and world.calls.faulty in _MAY_FAIL
    if world.calls.faulty and world.plan.fault <= outcome.calls and not (world.failures or ordinary):
        raise Wrong(f"{world.calls.faulty} failed, and nobody says so")
    if any(failure.ours for failure in world.failures) and not world.calls.faulty:
        raise Wrong("what the client did is called our failure")
    _judge_program(world, outcome)
    _judge_client(world, outcome)
    if not world.calls.faulty:
        _judge_handshake(world, outcome)
        _judge_failure(world, outcome)


def _one_way(world: World) -> bool:
    """Whether the program's end of its output may have ended its input, too."""
    return world.plan.close_notify and world.program.output_ended < FOREVER


def _judge_program(world: World, outcome: Outcome) -> None:
    program = world.program
    valid, end, _ = world.peer.meaning.of(outcome.arrived, world.peer.handshake)
    if program.read > valid:
        raise Wrong(f"the program got {program.read} bytes of {valid}")
    if program.read and not world.told.messages:
        raise Wrong("the program got bytes before it was told of a handshake")
    if not program.seen_end or world.calls.faulty or _one_way(world) or world.stalled:
        return
    if program.read < valid:
        raise Wrong(f"the program got {program.read} bytes of {valid}, then an end of file")
    if not (end or outcome.gone) and world.shaken:
        raise Wrong("the program got an end of file, and nothing had ended")


def _judge_client(world: World, outcome: Outcome) -> None:
    peer, program, plan = world.peer, world.program, world.plan
    if peer.answer_arrived > program.written:
        raise Wrong("the client got more than the program wrote")
    if world.calls.faulty:
        return
    abandoned = not world.told.messages and (outcome.program_gone or outcome.now >= plan.timeout)
    if world.connection.we_reset and not (world.stalled or abandoned):
        raise Wrong("the client was reset")
    if not peer.seen_end or not world.shaken:
        return
    _, end, within = peer.meaning.of(outcome.arrived, peer.handshake)
    if not world.failures or (within and outcome.gone and not (plan.demand or world.stalled)):
        if peer.answer_read < program.written:
            raise Wrong(f"the client got {peer.answer_read} bytes of {program.written}, then an end of file")
        if peer.close_notified != plan.close_notify:
            raise Wrong("close_notify is missing, or should not be there")
    elif end == "broken" and program.output_ended == FOREVER and not world.stalled and not peer.alerts:
        raise Wrong("the client was not told by an alert what was wrong")


def _judge_handshake(world: World, outcome: Outcome) -> None:
    peer = world.peer
    abandoned = world.plan.eager and outcome.program_gone
    excused = abandoned or world.connection.ended == "reset"
    if not world.shaken and peer.handshake <= world.plan.cut and not excused:
        raise Wrong("there was no handshake")
    if world.shaken and not world.told.messages and not excused:
        raise Wrong("nobody was told of the handshake")
    if world.failures and world.told.messages and world.failures[0].during_handshake:
        raise Wrong("the handshake failed, and was done")
    if not world.shaken and not world.failures and not abandoned:
        raise Wrong("there was no handshake, and nobody calls it a failure")


def _judge_failure(world: World, outcome: Outcome) -> None:
    lost = outcome.written > outcome.answered
    broken = _broken(world, outcome.arrived, outcome.gone)
    if world.said_when_done >= 0 and broken:
        broken = _broken(world, min(outcome.arrived, world.said_when_done), world.gone_when_done)
    if world.failures and not (lost or broken or world.stalled or not world.shaken):
        raise Wrong(f"called a failure, and nothing was lost or broken: {world.failures[0]}")
    if world.failures or world.stalled:
        return
    if lost:
        raise Wrong(f"the client lacks {outcome.written - outcome.answered} bytes, and nobody calls it a failure")
    if broken == "surely" and world.program.seen_end and not _one_way(world):
        raise Wrong("the client broke the session, and nobody calls it a failure")


def _broken(world: World, arrived: int, gone: bool) -> Literal["", "maybe", "surely"]:
    """Tell whether what the client has said, and how it has gone, breaks the session."""
    peer, plan = world.peer, world.plan
    _, end, within = peer.meaning.of(arrived, peer.handshake)
    if end == "alert" and not (plan.demand or plan.close_notify or world.program.output_ended == FOREVER):
        # To an end of file without close_notify some clients answer by an alert.
        before = peer.meaning.of(peer.said_at_end, peer.handshake)[1] if peer.said_at_end >= 0 else end
        return "maybe" if before else ""
    if end:
        return "" if end == "close_notify" else "surely"
    if gone and plan.demand:
        return "surely"
    return "surely" if gone and within and not world.deaf_when_gone else ""
