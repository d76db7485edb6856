"""A walk through the tables: no pair of states leads nowhere, and where nothing can move there is a bound."""

from __future__ import annotations

import pytest

from s6tls.tls.states import (
    DELIVERS,
    HAS_SAID_ALL,
    INBOUND,
    ONE_WAY,
    OUTBOUND,
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

Pair = tuple[Inbound, Outbound]
START = (Inbound.OPEN, Outbound.SHAKING)
EACH_MODE = pytest.mark.parametrize("one_way", [False, True], ids=["half-close", "close_notify"])


def reachable(start: Pair, one_way: bool) -> set[Pair]:
    """The pairs that events lead to."""
    found, new = {start}, {start}
    while new:
        new = {follow(*pair, event, one_way) for pair in new for event in Event} - found
        found |= new
    return found


def test_each_pair_of_states_may_come_about() -> None:
    """But with close_notify the client's direction ends as soon as ours has."""
    pairs = {(inbound, outbound) for inbound in Inbound for outbound in Outbound}
    assert reachable(START, one_way=False) == pairs
    assert reachable(START, one_way=True) == pairs - {(Inbound.OPEN, Outbound.ENDED)}


@EACH_MODE
def test_from_each_pair_a_session_can_end(one_way: bool) -> None:
    assert all(OVER in reachable(pair, one_way) for pair in reachable(START, one_way))


@EACH_MODE
def test_each_pair_has_a_bound_or_somebody_who_can_end_it(one_way: bool) -> None:
    """The handshake has its time, a client that is waited for is left in the end; else the program lives."""
    for inbound, outbound in reachable(START, one_way) - {OVER}:
        if outbound is Outbound.SHAKING:
            ending = Event.ABANDONED
        elif (inbound, outbound) in WAITS_FOR_CLIENT:
            ending = Event.STALLED
        else:
            assert inbound in DELIVERS or outbound in READS_PROGRAM
            continue
        assert follow(inbound, outbound, ending, one_way) != (inbound, outbound)


@EACH_MODE
def test_when_client_and_program_do_nothing_any_more_looks_alone_end_a_session(one_way: bool) -> None:
    """The program's end is what the kernel tells: it reads and writes no more."""
    for pair in reachable(START, one_way):
        then = follow(*pair, Event.ABANDONED, one_way) if pair[1] is Outbound.SHAKING else pair
        for event in (Event.PROGRAM_DEAF, Event.PROGRAM_GONE):
            then = follow(*then, event, one_way)
        looks = 0
        while then != OVER:
            assert then in WAITS_FOR_CLIENT or then[0] is Inbound.LAST
            then = follow(*then, Event.STALLED if then in WAITS_FOR_CLIENT else Event.DELIVERED, one_way)
            looks += 1
            assert looks <= 3


def test_no_event_leaves_what_is_closed() -> None:
    for event in Event:
        for one_way in (False, True):
            assert {follow(Inbound.CLOSED, outbound, event, one_way)[0] for outbound in Outbound} == {Inbound.CLOSED}
            assert {follow(inbound, Outbound.CLOSED, event, one_way)[1] for inbound in Inbound} == {Outbound.CLOSED}


def test_no_direction_goes_back() -> None:
    """States stand in the order in which they may follow each other."""
    order = [*Inbound, *Outbound]
    for table in (INBOUND, ONE_WAY, OUTBOUND):
        for before, following in table.items():
            assert all(order.index(after) > order.index(before) for after in following.values())


def test_the_tables_name_all_states_and_all_events() -> None:
    assert set(INBOUND) == set(Inbound) and set(OUTBOUND) == set(Outbound)
    named = {event for states in (*INBOUND.values(), *OUTBOUND.values()) for event in states}
    assert named == set(Event)


def test_the_sets_of_states_fit_together() -> None:
    for inbound, outbound in PROGRAM_IS_DONE:
        assert inbound not in DELIVERS and outbound not in READS_PROGRAM
    assert not HAS_SAID_ALL & READS_PROGRAM
    assert Inbound.CLOSED not in READS_NETWORK | DELIVERS
    assert WITHOUT_PROGRAM not in WAITS_FOR_CLIENT
