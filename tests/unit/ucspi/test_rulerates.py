"""The rates that rules give, and what is said of clients that come too often."""

from __future__ import annotations

import pytest

from s6tls.ucspi.ledger import Client
from s6tls.ucspi.log import Log
from s6tls.ucspi.rate import Rate
from s6tls.ucspi.rulerates import RuleRates
from tests.support.clock import Clock

A, B = Client("192.0.2.1", 1001), Client("2001:db8::1", 1002)
RATE = Rate(1, 60, 2)


def rates(clock: Clock, prefix: int = 64, verbosity: int = 0) -> RuleRates:
    return RuleRates(prefix, Log("server", verbosity), clock.after, clock.now_ns)


def test_a_bucket_fills_with_time() -> None:
    clock = Clock()
    book = rates(clock)
    assert [book.admit(A, RATE, "") for _ in range(3)] == [True, True, False]
    clock.pass_s(60)
    assert [book.admit(A, RATE, "") for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("prefix", "passes"), [(64, False), (128, True)])
def test_an_ipv6_client_is_its_network(prefix: int, passes: bool) -> None:
    book = rates(Clock(), prefix)
    assert [book.admit(B, RATE, "") for _ in range(2)] == [True, True]
    assert book.admit(Client("2001:db8::2", 1002), RATE, "") == passes


@pytest.mark.parametrize("verbosity", [1, 2])
def test_refusals_are_told_in_sum(verbosity: int, capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    book = rates(clock, verbosity=verbosity)
    for _ in range(8):
        book.admit(A, RATE, "ip4/192.0.2.0_24")
    line = "server: info: reject 192.0.2.1_1001 rate 1/60,2 rule ip4/192.0.2.0_24\n"
    assert capfd.readouterr().err == line
    clock.pass_s(59)
    book.log_rest()
    line = "server: info: rejected 5 clients over the rate of their rule, most of 192.0.2.1\n"
    assert capfd.readouterr().err == line
    clock.pass_s(600)
    assert capfd.readouterr().err == ""
