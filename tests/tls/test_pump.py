"""The pump: whatever the network, the client and the application do and when, what comes out is what went in."""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from s6tls.tls import context
from s6tls.tls.material import Options
from s6tls.tls.pump import CHUNK, MOST_TO_NETWORK, MOST_TO_PROGRAM, RECORDS, Pump, TLSFailure
from s6tls.tls.states import Event
from tests.tls import pki, sealing
from tests.tls.memory import VERSIONS, Client, client_context, drain, feed, shake_hands, take
from tests.tls.sealing import Records

MANY = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(MANY, max_examples=150)

versions = st.sampled_from(VERSIONS)
sizes = st.one_of(st.integers(1, 40), st.integers(1, 20_000), st.integers(16_000, CHUNK))
STEPS = (
    "client writes",
    "client's bytes leave",
    "server hears",
    "server's bytes leave",
    "client hears",
    "application writes",
    "application reads",
    "client closes",
    "client cuts",
    "application closes",
)


@functools.cache
def server_context() -> SSL.Context:
    return context.build(pki.material(default=pki.pair()), Options())


@functools.cache
def some_client_context(version: int) -> SSL.Context:
    return client_context(version)


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


class World:
    """A client, two wires, the pump and an application; each step moves a few bytes at one place."""

    def __init__(
        self, version: int, request: int, answer: int, close_notify: bool, demand: bool, shaken: bool = True
    ) -> None:
        self.pump = Pump(server_context(), close_notify, demand)
        self.client = Client(some_client_context(version))
        self.request, self.answer = noise(request, 1), noise(answer, 2)
        self.written = self.answered = 0
        self.to_server, self.to_client = bytearray(), bytearray()
        self.got = b""
        self.closed = self.client_closed = self.client_cut = self.server_heard_end = False
        if shaken:
            shake_hands(self.pump, self.client)
        else:
            self.client.hear()

    def step(self, what: str, size: int) -> bool:
        """Do one thing if it can be done; tell whether anything moved."""
        moved = bool(getattr(self, "_" + what.replace("'s", "").replace(" ", "_"))(size))
        pump = self.pump
        assert pump.unsent == sum(map(len, pump.to_network)) <= MOST_TO_NETWORK
        assert sum(map(len, pump.to_program)) <= MOST_TO_PROGRAM
        assert self.request.startswith(self.got)
        assert self.answer.startswith(self.client.received)
        return moved

    def run(self, size: int, *what: str) -> None:
        """Do these things, over and over, until none of them moves anything."""
        while sum([self.step(one, size) for one in what]):
            pass

    def settle(self) -> None:
        """Let everybody do all that they can, and end well."""
        self.run(CHUNK, *(what for what in STEPS if what != "client cuts"))

    def _client_writes(self, size: int) -> bool:
        data = self.request[self.written : self.written + size]
        if not (data and self.client.established) or self.client_closed or self.client_cut:
            return False
        self.written += self.client.connection.send(data)
        return True

    def _client_closes(self, _: int) -> bool:
        """The client ends its direction as TLS says: close_notify, then end of file."""
        if not self.client.established or self.client_closed or self.client_cut:
            return False
        self.client.connection.shutdown()
        self._client_bytes_leave(0)
        self.client_closed = True
        return True

    def _client_cuts(self, size: int) -> bool:
        """The client is gone, and of what it said only so many bytes more arrive."""
        self._client_bytes_leave(0)
        del self.to_server[size:]
        self.client_cut = True
        return True

    def _client_bytes_leave(self, _: int) -> bool:
        data = self.client.said()
        if not self.client_cut:
            self.to_server += data
        return bool(data)

    def _server_hears(self, size: int) -> bool:
        if self.pump.deaf or not self.pump.wants_network:
            return False
        data = bytes(self.to_server[:size])
        if not data:
            if not (self.client_cut or (self.client_closed and not self.server_heard_end)):
                return False
            self.server_heard_end = True
        del self.to_server[:size]
        feed(self.pump, data)
        return True

    def _server_bytes_leave(self, size: int) -> bool:
        data = b"".join(self.pump.to_network)[:size]
        self.pump.sent(len(data))
        self.to_client += data
        return bool(data)

    def _client_hears(self, size: int) -> bool:
        data = bytes(self.to_client[:size])
        del self.to_client[:size]
        if data:
            self.client.hear(data)
        return bool(data)

    def _application_writes(self, size: int) -> bool:
        data = self.answer[self.answered : self.answered + size]
        if not (data and self.pump.established and self.pump.wants_program) or self.closed:
            return False
        self.pump.feed_program(data)
        self.answered += len(data)
        return True

    def _application_closes(self, _: int) -> bool:
        if self.closed or self.answered < len(self.answer) or not self.pump.wants_program:
            return False
        self.closed = True
        self.pump.feed_program(b"")
        return True

    def _application_reads(self, size: int) -> bool:
        data = b"".join(self.pump.to_program)[:size]
        self.pump.delivered(len(data))
        self.got += data
        return bool(data)


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


# Damage


def first_flights(version: int) -> list[bytes]:
    """What a client says until its first request has been sent, one turn at a time."""
    pump, client = Pump(server_context()), Client(some_client_context(version))
    client.hear()
    said = []
    while data := client.said():
        said.append(data)
        feed(pump, data)
        client.hear(drain(pump))
    return said


def assert_next_session_is_fine() -> None:
    """What one session left in the library must not be taken for the next one's."""
    pump, client = Pump(server_context()), Client(some_client_context(SSL.TLS1_3_VERSION))
    shake_hands(pump, client)
    client.connection.send(b"hello")
    feed(pump, client.said())
    assert take(pump) == b"hello"


@FEW
@given(st.binary(min_size=1, max_size=2000), st.booleans())
def test_garbage_instead_of_a_handshake_is_a_handshake_failure(garbage: bytes, like_a_record: bool) -> None:
    pump = Pump(server_context())
    if like_a_record:
        garbage = b"\x16\x03\x01" + struct.pack(">H", len(garbage)) + garbage
    with pytest.raises(TLSFailure) as failure:
        feed(pump, garbage)
        feed(pump, b"")
    assert failure.value.during_handshake and str(failure.value)
    assert_next_session_is_fine()


@MANY
@given(versions, st.data())
def test_a_damaged_handshake_is_a_handshake_failure(version: int, data: st.DataObject) -> None:
    pump, client = Pump(server_context()), Client(some_client_context(version))
    client.hear()
    turn = data.draw(st.integers(0, 1), "turn to damage")
    cut = data.draw(st.booleans(), "cut short, not flipped")
    try:
        for now in range(2):
            said = bytearray(client.said())
            if now == turn:
                where = data.draw(st.integers(0, len(said) * 8 - 1), "bit")
                said[where // 8] ^= 1 << where % 8
                if cut:
                    del said[where // 8 :]
            if said:
                feed(pump, bytes(said))
            if cut and now == turn:
                feed(pump, b"")
            try:
                client.hear(drain(pump))
            except SSL.Error:
                feed(pump, client.said() or b"")
        feed(pump, b"")
        assert pump.established  # a flipped bit that means nothing, as in a session id
        assert not cut
    except TLSFailure as failure:
        assert failure.during_handshake
        assert not pump.to_program
    assert_next_session_is_fine()


@FEW
@given(versions, st.integers(0, 2**20))
def test_a_damaged_record_ends_a_running_session(version: int, where: int) -> None:
    pump, client = Pump(server_context()), Client(some_client_context(version))
    shake_hands(pump, client)
    client.connection.send(b"good")
    feed(pump, client.said())
    client.connection.send(b"bad" * 1000)
    said = bytearray(client.said())
    bit = where % (len(said) * 8)
    said[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TLSFailure) as failure:
        feed(pump, bytes(said))
        feed(pump, b"\x17\x03\x03" + b"\x00\x20" + bytes(32))  # a longer length waits for more
        feed(pump, bytes(CHUNK))
    assert not failure.value.during_handshake
    assert take(pump) == b"good"
    assert_next_session_is_fine()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("description", [10, 40, 50, 80, 112, 113, 255])
def test_every_alert_after_the_half_close_is_the_client_s_end(version: int, description: int) -> None:
    """OpenSSL does not call all of them alerts in its messages."""
    told, records = sealing.context(version)
    pump, client = Pump(server_context()), Client(told)
    shake_hands(pump, client)
    pump.feed_program(b"")
    assert pump.feed_network(records(client.connection).alert(2, description)) == (Event.CLIENT_ENDED,)
    assert pump.failure is None


# Key updates


def established_with_key_updates() -> tuple[Pump, Client, Records]:
    told, records = sealing.context(SSL.TLS1_3_VERSION)
    pump, client = Pump(server_context()), Client(told)
    shake_hands(pump, client)
    return pump, client, records(client.connection)


def test_key_updates_are_answered_and_the_session_goes_on() -> None:
    pump, client, records = established_with_key_updates()
    for _ in range(10):
        feed(pump, records.request_keys())
    assert pump.unsent
    pump.feed_program(b"hello")
    client.hear(drain(pump))
    assert client.received == b"hello"


def test_a_flood_of_key_updates_from_a_client_that_does_not_read_is_stopped() -> None:
    pump, _, records = established_with_key_updates()
    for _ in range(10):
        if pump.wants_network:
            feed(pump, b"".join(records.request_keys() for _ in range(CHUNK // 27)))
        assert pump.unsent <= MOST_TO_NETWORK
    assert not pump.wants_network


def test_of_many_small_records_some_are_taken_at_a_time() -> None:
    """A key update costs as much as a large record: a chunk of them kept the others of a worker waiting for 0.1 s."""
    pump, client, records = established_with_key_updates()
    flood = [records.request_keys() for _ in range(3 * RECORDS)]
    pump.feed_network(b"".join(flood))
    assert pump.withheld == b"".join(flood[RECORDS:])
    pump.feed_network(b"")
    assert pump.withheld == b"".join(flood[2 * RECORDS :])
    pump.feed_network(b"")
    assert not pump.withheld and pump.failure is None
    pump.feed_program(b"hello")
    client.hear(drain(pump))
    assert client.received == b"hello"


def test_a_full_pump_takes_the_network_up_again_when_the_peer_has_read() -> None:
    pump, _, records = established_with_key_updates()
    while pump.wants_network:
        feed(pump, b"".join(records.request_keys() for _ in range(CHUNK // 27)))
    drain(pump)
    assert pump.wants_network


def test_reasons_are_the_library_s_own_words() -> None:
    reasons: list[str] = []
    damage: list[Callable[[Pump], None]] = [
        lambda pump: feed(pump, b"GET / HTTP/1.0\r\n\r\n"),
        lambda pump: feed(pump, b""),
    ]
    for harm in damage:
        with pytest.raises(TLSFailure) as failure:
            harm(Pump(server_context()))
        reasons.append(str(failure.value))
    assert reasons == ["http request", "the peer closed the connection"]
