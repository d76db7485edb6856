"""The pump: whatever the network, the client and the application do and when, what comes out is what went in."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s6tls.tls.pump import CHUNK, MOST_TO_PROGRAM, TLSFailure
from tests.support.tls.memory import (
    VERSIONS,
)
from tests.support.tls.steps import STEPS, World

MANY = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(MANY, max_examples=150)

versions = st.sampled_from(VERSIONS)
sizes = st.one_of(st.integers(1, 40), st.integers(1, 20_000), st.integers(16_000, CHUNK))

steps = st.lists(st.tuples(st.sampled_from(STEPS[:7]), sizes), max_size=150)


@MANY
@given(versions, st.integers(0, 400_000), st.integers(0, 400_000), steps, st.booleans(), st.booleans(), st.booleans())
def test_everything_arrives_in_both_directions_in_whatever_order_things_happen(
    version: int,
    request: int,
    answer: int,
    plan: list[tuple[str, int]],
    close_notify: bool,
    demand: bool,
    shaken: bool,
) -> None:
    world = World(version, request, answer, close_notify, demand, shaken)
    for what, size in plan:
        world.step(what, size)
    world.run(CHUNK, *STEPS[:7])
    world.settle()
    assert world.got == world.request
    assert world.client.received == world.answer
    assert world.pump.deaf and world.closed
    assert world.client.heard_close_notify == close_notify


@MANY
@given(
    versions,
    st.lists(st.tuples(st.sampled_from(STEPS), sizes), max_size=200),
    st.integers(0, 200_000),
    st.integers(0, 200_000),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_ends_at_any_moment_cut_the_streams_short_and_never_garble_them(
    version: int,
    plan: list[tuple[str, int]],
    request: int,
    answer: int,
    close_notify: bool,
    demand: bool,
    shaken: bool,
) -> None:
    world = World(version, request, answer, close_notify, demand, shaken)
    try:
        for what, size in plan:
            world.step(what, size)
        world.settle()
    except TLSFailure as failure:
        assert world.client_cut
        assert failure.during_handshake != world.pump.established
        assert demand or failure.during_handshake or str(failure).endswith("within a record")
    else:
        assert world.pump.deaf
        assert world.client.received == world.answer[: world.answered]
        assert world.client_cut or world.got == world.request[: world.written]


@FEW
@given(versions, st.integers(0, 300_000), sizes, st.booleans())
def test_the_answer_comes_in_full_after_the_client_has_ended_its_direction(
    version: int, length: int, size: int, demand: bool
) -> None:
    world = World(version, 0, length, close_notify=False, demand=demand)
    world.run(size, "client closes", "client's bytes leave", "server hears")
    assert world.pump.deaf and not world.answered
    world.run(size + 999, "application writes", "server's bytes leave", "client hears")
    assert world.client.received == world.answer


@FEW
@given(versions, st.integers(0, 300_000), sizes)
def test_the_request_comes_in_full_after_the_application_has_ended_its_direction(
    version: int, length: int, size: int
) -> None:
    world = World(version, length, 0, close_notify=False, demand=True)
    world.run(size, "application closes", "server's bytes leave")
    assert world.closed and not world.written
    world.run(size + 999, "client writes", "client's bytes leave", "server hears", "application reads")
    assert world.got == world.request


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_never_reads_still_gets_its_bytes_to_the_application(version: int) -> None:
    world = World(version, 1_000_000, 1_000_000, close_notify=False, demand=False)
    for _ in range(100):
        for what in (
            "application writes",
            "client writes",
            "client's bytes leave",
            "server hears",
            "application reads",
        ):
            world.step(what, CHUNK)
    assert world.got == world.request
    assert world.answered <= CHUNK


@pytest.mark.parametrize("version", VERSIONS)
def test_an_application_that_never_reads_stops_the_network_and_nothing_else(version: int) -> None:
    world = World(version, 1_000_000, 1_000_000, close_notify=False, demand=False)
    for _ in range(100):
        for what in STEPS[:6]:
            world.step(what, CHUNK)
    assert world.client.received == world.answer
    assert sum(map(len, world.pump.to_program)) <= MOST_TO_PROGRAM
