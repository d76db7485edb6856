"""Sessions in memory, by the thousand: whatever client and program do, every valid byte arrives and both sides end.

`python -m tests.support.simulation` runs more of them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.simulation.plans import CLOSE_NOTIFY, FATAL, STALL_TIMEOUT, USER_CANCELED, Do, Plan, Say, Step
from tests.support.simulation.seeds import run_seed
from tests.support.simulation.world import World
from tests.support.tls.memory import NAMES, VERSIONS

SEQUENCES, AT_ONCE = 20_000, 500
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS, ids=NAMES.get)
ORDERS = range(100)
SILENT = (Do("stop reading"),)
UNKNOWN_NAME = Say("alert", 112, FATAL)


@pytest.mark.parametrize("first", range(1, SEQUENCES, AT_ONCE))
def test_random_sequences(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        run_seed(seed)


# What was found, each in any order of things


def run_in_each_order(plan: Plan) -> list[World]:
    worlds = [World(replace(plan, order=order)) for order in ORDERS]
    for world in worlds:
        world.run()
    return worlds


@EACH_VERSION
@pytest.mark.parametrize("eager", [False, True])
def test_a_program_that_leaves_more_than_a_silent_client_takes_does_not_keep_the_session_for_ever(
    version: int, eager: bool
) -> None:
    """The end of what it wrote could not be read: nobody knew that it was gone, before the handshake's end or after."""
    plan = Plan(version, client=SILENT, program=(Step("write", 60_000),), eager=eager)
    plan = replace(plan, capacities=(4096, 65536, 4096, 65536, 65536), paces=(1, 1, 1, 1, 30, 1))
    assert all(world.failures for world in run_in_each_order(plan))


@pytest.mark.parametrize("sockets", [False, True])
def test_a_program_that_has_ended_its_output_does_not_wait_for_a_silent_client_for_ever(sockets: bool) -> None:
    """Of a socket that is shut down one way only, there is an event of its own."""
    program = (Step("write", 200_000), Step("close output"), Step("pause", 1000))
    plan = Plan(client=SILENT, program=program, sockets=sockets)
    plan = replace(plan, capacities=(4096, 65536, 4096, 65536, 262144))
    for world in run_in_each_order(plan):
        assert world.failures and world.outcomes[0].now < 1000


@EACH_VERSION
@pytest.mark.parametrize("close_notify", [False, True])
def test_an_answer_that_a_client_cuts_off_after_its_own_end_is_lost(version: int, close_notify: bool) -> None:
    """The session had closed the socket by then, since there was nothing more to be read."""
    client = (*SILENT, Say("alert", CLOSE_NOTIFY), Do("end"), Do("idle", 1), Do("reset"))
    plan = Plan(version, close_notify, client=client, program=(Step("read"), Step("write", 20_000)))
    plan = replace(plan, capacities=(65536, 65536, 4096, 65536, 65536))
    assert all(world.failures for world in run_in_each_order(plan))


@EACH_VERSION
def test_a_slow_client_that_has_ended_gets_the_whole_answer_while_the_session_waits(version: int) -> None:
    client = (Say("alert", CLOSE_NOTIFY), Do("end"), Do("stall", 20), Do("wait", 100))
    plan = Plan(version, client=client, program=(Step("read"), Step("write", 20_000)))
    plan = replace(plan, capacities=(65536, 65536, 4096, 65536, 65536))
    for world in run_in_each_order(plan):
        assert not world.failures and world.peer.answer_read == 20_000
        assert world.outcomes[0].now >= 20


@EACH_VERSION
def test_every_alert_after_the_half_close_is_an_end(version: int) -> None:
    """OpenSSL does not call all of them alerts in its messages."""
    program = (Step("write", 10), Step("close output"), Step("read"))
    plan = Plan(version, client=(Do("wait", 10), UNKNOWN_NAME, Do("close")), program=program)
    assert not any(world.failures for world in run_in_each_order(plan))


@EACH_VERSION
def test_what_comes_with_the_end_of_a_program_that_has_closed_its_output_is_no_failure(version: int) -> None:
    """Whichever of the two ends the session hears of first."""
    program = (Step("close output"), Step("read", 10))
    plan = Plan(version, client=(Do("wait", 10), Say("data", 10), Say("junk", 9), Do("close")), program=program)
    run_in_each_order(replace(plan, paces=(1, 30, 30, 30, 30, 1)))


@EACH_VERSION
@pytest.mark.parametrize("close_notify", [False, True])
def test_user_canceled_is_ignored(version: int, close_notify: bool) -> None:
    client = (Say("data", 10), Say("alert", USER_CANCELED), Say("alert", CLOSE_NOTIFY), Do("wait", 10), Do("close"))
    for demand in (False, True):
        plan = Plan(version, close_notify, demand, client, (Step("read"), Step("write", 100_000)))
        for world in run_in_each_order(plan):
            assert not world.failures and world.program.read == 10 and world.peer.answer_read == 100_000


def test_valid_bytes_wait_for_a_program_that_rests_for_long_though_its_client_takes_nothing() -> None:
    """The program has ended its own output; the client has broken the session, and is gone."""
    program = (Step("pause", 45), Step("write", 4380), Step("close output"), Step("pause", 1000))
    plan = Plan(VERSIONS[0], client=(Say("data", 228_662), Say("bad", 27), Do("close")), program=program, grain=20_000)
    run_in_each_order(replace(plan, capacities=(4096, 262144, 65536, 65536, 262144), paces=(10, 1, 1, 1, 10, 10)))


# Whatever fails within


ORDINARY = Plan(
    client=(Say("data", 20_000), Do("wait", 10), Say("alert", CLOSE_NOTIFY), Do("close")),
    program=(Step("read", 20_000), Step("write", 20_000)),
    capacities=(4096, 65536, 4096, 4096, 65536),
)
FAULTY = {
    "ordinary": ORDINARY,
    "broken": Plan(client=(Say("data", 10), Say("junk", 10), Do("wait", 10), Do("close")), program=(Step("read"),)),
    "silent": Plan(client=SILENT, program=(Step("write", 100_000),), capacities=(4096,) * 5),
    "half-closed": Plan(client=(Do("wait", 10), UNKNOWN_NAME), program=(Step("close output"), Step("read"))),
    "abandoned": Plan(cut=100, eager=True),
    "late": Plan(cut=100),
    "never closed": Plan(close_notify=True, client=(Say("data", 10),), program=(Step("write", 10),)),
}


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, OSError])
@pytest.mark.parametrize("which", FAULTY)
def test_any_single_call_may_fail_and_ends_its_session_only(which: str, error: type[Exception]) -> None:
    for version in VERSIONS:
        plan = replace(FAULTY[which], version=version, error=error)
        sound = World(plan)
        sound.run()
        assert sound.calls.count > 10
        for fault in range(1, sound.calls.count + 1):
            World(replace(plan, fault=fault)).run()


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_what_fails_within_is_not_called_the_clients_doing(error: type[Exception]) -> None:
    sound = World(ORDINARY)
    sound.run()
    assert not sound.failures
    for fault in range(1, sound.calls.count + 1):
        world = World(replace(ORDINARY, error=error, fault=fault))
        world.run()
        assert all(failure.ours for failure in world.failures)


@EACH_VERSION
def test_a_program_gets_nothing_of_a_session_of_which_nobody_could_be_told(version: int) -> None:
    """Its bytes come in the same read as the end of the handshake."""
    plan = Plan(version, client=(Say("data", 11),), program=(Step("write", 50_000), Step("read")), eager=True)
    tried = 0
    for order in range(20):
        for fault in range(8, 20):
            world = World(replace(plan, order=order, fault=fault, error=OSError, paces=(3, 3, 1, 1, 30, 10)))
            world.run()
            tried += world.calls.faulty == "notify.tell"
            assert world.told.messages or not world.program.read
    assert tried


@pytest.mark.parametrize("sockets", [False, True])
def test_a_client_that_has_had_our_end_may_pause_for_long(sockets: bool) -> None:
    """It has acknowledged all, so there is nothing that it could be late with: the session is to hear of that."""
    client = (Do("idle", 10 * STALL_TIMEOUT), Say("data", 1000), Say("alert", CLOSE_NOTIFY), Do("end"))
    program = (Step("write", 1000), Step("close output"), Step("read"))
    for world in run_in_each_order(Plan(client=client, program=program, sockets=sockets)):
        assert not world.failures and world.program.read == 1000
