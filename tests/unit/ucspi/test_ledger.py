"""Slots and what is said about them, without a socket."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules.keys import address_text
from s6tls.ucspi.ledger import Client, Ledger, Limits
from s6tls.ucspi.log import Log
from s6tls.ucspi.rate import Rate
from tests.support.clock import Clock

A, B = Client("192.0.2.1", 1001), Client("2001:db8::1", 1002)


def ledger(total: int = 40, per_client: int = 40, verbosity: int = 0, **limits: Any) -> Ledger:
    return timed(Clock(), total, per_client, verbosity, **limits)


def timed(clock: Clock, total: int = 40, per_client: int = 40, verbosity: int = 0, **limits: Any) -> Ledger:
    book = Limits(total, per_client, **limits)
    return Ledger(book, Log("server", verbosity), clock.after, clock.now_ns)


def test_each_connection_learns_how_many_its_client_has_already() -> None:
    book = ledger()
    assert [book.admit(client) for client in (A, A, B, A)] == [0, 1, 0, 2]
    book.release(A)
    assert [book.admit(client) for client in (A, B)] == [2, 1]


def test_connections_from_several_ports_are_one_clients() -> None:
    book = ledger(per_client=1)
    assert book.admit(A) == 0
    assert book.admit(A._replace(port=A.port + 1)) is None
    assert book.admit(B) == 0


def test_it_is_full_at_the_limit_and_not_after_a_release() -> None:
    book = ledger(total=2)
    seen = [book.is_full]
    for client in (A, B):
        book.admit(client)
        seen.append(book.is_full)
    book.release(A)
    assert [*seen, book.is_full] == [False, False, True, False]


def test_a_client_that_is_rejected_takes_no_slot() -> None:
    book = ledger(total=2, per_client=1)
    book.admit(A)
    for _ in range(10):
        assert book.admit(A) is None
    assert (book.count, book.is_full) == (1, False)
    book.release(A)
    assert book.admit(A) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3))))
def test_it_counts_as_a_list_does(steps: list[tuple[bool, int]]) -> None:
    book = ledger(per_client=3)
    model: list[Client] = []
    for enters, number in steps:
        client = Client(f"192.0.2.{number}", number)
        if enters:
            already = model.count(client)
            assert book.admit(client) == (already if already < 3 else None)
            model += [client] * (already < 3)
        elif client in model:
            book.release(client)
            model.remove(client)
        assert book.count == len(model)
    for client in model:
        book.release(client)
    assert not book._held, "clients that have left take no memory"


@given(st.binary(min_size=16, max_size=16), st.integers(1, 128))
def test_an_ipv6_client_is_its_network(packed: bytes, prefix: int) -> None:
    client = Client(address_text(packed).decode(), 1)
    network = ip_network((packed, prefix), strict=False)
    whole = f"/{prefix}" if prefix < 128 else ""
    assert client.network(prefix) == address_text(network.network_address.packed).decode() + whole


def test_an_ipv4_client_is_its_address() -> None:
    assert A.network(1) == A.address


def test_the_addresses_of_a_network_share_their_slots() -> None:
    neighbour, other = Client("2001:db8::f:1", 1002), Client("2001:db8:0:1::1", 1002)
    book = ledger(per_client=2)
    assert [book.admit(client) for client in (B, neighbour, B, neighbour, other)] == [0, 1, None, None, 0]
    book.release(neighbour)
    assert book.admit(B) == 1
    apart = ledger(per_client=1, prefix=128)
    assert [apart.admit(client) for client in (B, neighbour, B)] == [0, 0, None]


def test_a_client_over_its_rate_takes_no_slot() -> None:
    clock = Clock()
    book = timed(clock, rate=Rate(1, 60, 2))
    assert [book.admit(client) for client in (A, A, A, B, A)] == [0, 1, None, 0, None]
    assert book.count == 3
    clock.pass_s(60)
    assert [book.admit(A), book.admit(A)] == [2, None]


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line.removeprefix("server: ").removeprefix("info: ") for line in capfd.readouterr().err.splitlines()]


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_lines(verbosity: int, capfd: pytest.CaptureFixture[str]) -> None:
    book = ledger(3, 1, verbosity)
    book.log_status()
    book.admit(A)
    book.log_accept(A, 77)
    book.admit(A)
    book.admit(A)
    book.release(A)
    book.log_end(A, 77, "exitcode 0")
    book.log_status()
    expected = [
        (2, "status: 0/3"),
        (2, "accept 192.0.2.1_1001 pid 77 count 1/1"),
        (2, "status: 1/3"),
        (2, "limit -C reached by 192.0.2.1: 1 connections, 0 of them in a handshake"),
        (1, "reject 192.0.2.1_1001 count 1/1"),
        (2, "reject 192.0.2.1_1001 count 1/1"),
        (2, "limit -C no longer reached by 192.0.2.1"),
        (2, "end pid 77 exitcode 0 count 0/1"),
        (2, "status: 0/3"),
    ]
    assert lines(capfd) == [text for at, text in expected if verbosity >= at]


def test_a_handshake_counts(capfd: pytest.CaptureFixture[str]) -> None:
    book = ledger(3, 3, 2)
    book.log_status()
    for client in (A, B):
        book.admit(client)
        book.enter_handshake(client)
    book.leave_handshake(A)
    book.enter_handshake(A)
    book.leave_handshake(A)
    book.log_accept(A, 77)
    assert lines(capfd) == [
        *("status: 0/3", "status: 1/3", "status: 2/3"),
        *("accept 192.0.2.1_1001 pid 77 count 1/3", "status: 2/3"),
    ]


def test_at_verbosity_2_every_end_of_the_room_is_told_and_its_return(capfd: pytest.CaptureFixture[str]) -> None:
    book = ledger(2, 2, 2)
    for client in (A, B):
        book.admit(client)
    book.enter_handshake(B)
    for _ in range(2):
        book.log_full()
    book.release(A)
    book.admit(A)
    book.log_full()
    reached = "warning: limit -c reached: 2 connections, 1 of them in a handshake"
    assert lines(capfd) == ["status: 2/2", reached, "limit -c no longer reached", reached]


def test_at_verbosity_1_a_full_server_says_so_once_a_minute(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    book = timed(clock, 1, 1, 1)
    reached = "warning: limit -c reached: 1 connections, 0 of them in a handshake"
    for _ in range(5):
        book.admit(A)
        book.log_full()
        book.release(A)
    assert lines(capfd) == [reached]
    book.admit(A)
    book.log_full()
    for _ in range(2):
        clock.pass_s(60)
        assert lines(capfd) == [reached]
    book.release(A)
    clock.pass_s(600)
    assert lines(capfd) == []


def test_at_verbosity_1_rejects_are_told_in_sum_once_a_minute(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    book = timed(clock, 4, 1, 1)
    book.admit(A)
    book.admit(B)
    book.enter_handshake(B)
    for client in (A, A, B, B, B):
        book.admit(client)
    assert lines(capfd) == ["reject 192.0.2.1_1001 count 1/1"]
    clock.pass_s(60)
    most = "most of 2001:db8::/64, which has 1 connections, 1 of them in a handshake"
    assert lines(capfd) == [f"rejected 4 clients over -C, {most}"]
    clock.pass_s(60)
    book.admit(A)
    assert lines(capfd) == ["reject 192.0.2.1_1001 count 1/1"]
    book.admit(A)
    book.log_rest()
    assert lines(capfd) == ["reject 192.0.2.1_1001 count 1/1"]


@pytest.mark.parametrize("verbosity", [1, 2])
def test_refusals_for_the_rate_are_told_in_sum_always(verbosity: int, capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    book = timed(clock, verbosity=verbosity, rate=Rate(1, 3600, 1))
    for client in (A, A, A, B, B, B, B):
        book.admit(client)
    assert lines(capfd) == ["reject 192.0.2.1_1001 rate 1/3600,1"]
    clock.pass_s(60)
    assert lines(capfd) == ["rejected 4 clients over --rate=1/3600,1, most of 2001:db8::/64"]
    clock.pass_s(600)
    assert lines(capfd) == []
