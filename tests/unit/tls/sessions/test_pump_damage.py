"""The pump beside clients that damage a session or flood it."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from s6tls.tls.pump import CHUNK, MOST_TO_NETWORK, RECORDS, Pump, TLSFailure
from s6tls.tls.states import Event
from tests.support.tls import sealing
from tests.support.tls.memory import (
    VERSIONS,
    Client,
    drain,
    feed,
    server_context,
    shake_hands,
    some_client_context,
    take,
)
from tests.support.tls.sealing import Records

MANY = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(MANY, max_examples=150)

versions = st.sampled_from(VERSIONS)
sizes = st.one_of(st.integers(1, 40), st.integers(1, 20_000), st.integers(16_000, CHUNK))


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
