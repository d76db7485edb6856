"""Slots and what is said about them, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.ucspi.ledger import Client, Ledger, Limits
from s6tls.ucspi.log import Log

A, B = Client("192.0.2.1", 1001), Client("2001:db8::1", 1002)


def ledger(total: int = 40, per_address: int = 40, verbosity: int = 0) -> Ledger:
    return Ledger(Limits(total, per_address), Log("server", verbosity))


def test_each_connection_learns_how_many_its_client_has_already() -> None:
    book = ledger()
    assert [book.admit(client) for client in (A, A, B, A)] == [0, 1, 0, 2]
    book.release(A)
    assert [book.admit(client) for client in (A, B)] == [2, 1]


def test_connections_from_several_ports_are_one_clients() -> None:
    book = ledger(per_address=1)
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
    book = ledger(total=2, per_address=1)
    book.admit(A)
    for _ in range(10):
        assert book.admit(A) is None
    assert (book.count, book.is_full) == (1, False)
    book.release(A)
    assert book.admit(A) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3))))
def test_it_counts_as_a_list_does(steps: list[tuple[bool, int]]) -> None:
    book = ledger(per_address=3)
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
    assert not book._held, "addresses that have left take no memory"


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_lines(verbosity: int, capfd: pytest.CaptureFixture[str]) -> None:
    book = ledger(3, 1, verbosity)
    book.log_status()
    book.admit(A)
    book.log_accept(A, 77)
    book.admit(A)
    book.release(A)
    book.log_end(A, 77, "exitcode 0")
    book.log_status()
    lines = [
        (2, "status: 0/3"),
        (2, "accept 192.0.2.1_1001 pid 77 count 1/1"),
        (2, "status: 1/3"),
        (1, "reject 192.0.2.1_1001 count 1/1"),
        (2, "end pid 77 exitcode 0 count 0/1"),
        (2, "status: 0/3"),
    ]
    assert capfd.readouterr().err == "".join(f"server: info: {text}\n" for at, text in lines if verbosity >= at)
