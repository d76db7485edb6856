"""What an engine tells of a session on a pipe, and what the server makes of it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping

import pytest

from s6tls.posix.reactor import Reactor
from s6tls.tls.engines.account import Account, OnPipe
from s6tls.ucspi.following import follow
from s6tls.ucspi.image import ClientFailure, StageExit

PEER = "192.0.2.1_4711"
VARIABLES = {b"SSL_PROTOCOL": b"TLSv1.3"}


def account(tell: Callable[[OnPipe], object], rule: str = "", variables: Mapping[bytes, bytes] = VARIABLES) -> Account:
    """Return the account of a session of which this is told; `variables` are none before a handshake."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    teller = OnPipe(writing, awaits_reply=not variables)
    tell(teller)
    teller.ended(*((5, 7) if variables else (0, 0)))
    told = Account(reading, b"", PEER, variables, rule)
    assert told.resume()
    told.close()
    return told


def failure(
    tell: Callable[[OnPipe], object], variables: Mapping[bytes, bytes] = VARIABLES
) -> tuple[type[StageExit], int, str, str]:
    found = account(tell, variables=variables).failure
    assert found is not None
    return type(found), found.code, found.kind, str(found)


def test_an_ordinary_end_is_no_failure() -> None:
    told = account(lambda _: None)
    assert told.failure is None
    assert told.told() == "in 5 out 7 protocol TLSv1.3 ended"


def test_the_rule_stands_before_the_end() -> None:
    assert account(lambda _: None, "ip4/0.0.0.0_0").told() == "in 5 out 7 protocol TLSv1.3 rule ip4/0.0.0.0_0 ended"


@pytest.mark.parametrize("ours", [False, True])
def test_a_session_that_breaks_says_so_in_its_line(ours: bool) -> None:
    assert account(lambda teller: teller.failed("x", False, ours)).told() == "in 5 out 7 protocol TLSv1.3 broken"


def test_what_a_client_does_is_its_failure() -> None:
    reset = "unable to read from the network: Connection reset by peer"
    message = f"unable to go on with {PEER}: {reset}"
    assert failure(lambda teller: teller.failed(reset, False, False)) == (ClientFailure, 98, "fatal", message)
    message = f"unable to complete the handshake with {PEER}: http request"
    assert failure(lambda teller: teller.failed("http request", True, False), {}) == (
        ClientFailure,
        97,
        "fatal",
        message,
    )


def test_what_we_do_wrong_is_for_the_operator() -> None:
    message = f"unable to go on with {PEER}: out of memory"
    assert failure(lambda teller: teller.failed("out of memory", False, True)) == (StageExit, 111, "warning", message)
    message = "unable to complete the handshake: out of memory"
    assert failure(lambda teller: teller.failed("out of memory", True, True), {}) == (StageExit, 111, "fatal", message)


def test_signs_of_life_stand_between_what_is_told() -> None:
    def tell(teller: OnPipe) -> None:
        teller.alive()
        teller.failed("http request", not established, False)
        for _ in range(1000):
            teller.alive()

    for established in (False, True):
        told = account(tell, variables=VARIABLES if established else {})
        assert "http request" in str(told.failure)
    assert told.told() == "in 5 out 7 protocol TLSv1.3 broken"


def test_an_engine_that_writes_without_end_holds_nobody_else_up() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    told = Account(reading, b"", PEER, VARIABLES)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2**20)
    assert told.resume() is False
    os.write(writing, bytes(2**20))
    assert told.resume() is None
    os.close(writing)
    reactor = Reactor()
    follow(reactor, told, reactor.stop)
    reactor.run()
    reactor.close()


def test_the_reply_is_the_first_that_is_told() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    teller = OnPipe(writing, awaits_reply=True)
    teller.alive()
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    teller.shaken()
    teller.alive()
    assert os.read(reading, 10) == b"\0\0"
    teller.ended(0, 0)
    teller.alive()
    os.close(reading)
