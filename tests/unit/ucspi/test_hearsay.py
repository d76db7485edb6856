"""What engines say: a line now and then, marked as theirs."""

from __future__ import annotations

import os

import pytest

from s6tls.posix.reactor import Reactor
from s6tls.ucspi import hearsay
from s6tls.ucspi.hearsay import Hearsay

HEARD = "s6-tlsd-io: warning: an engine says: "


@pytest.fixture
def heard() -> Hearsay:
    return Hearsay(Reactor(), "s6-tlsd-io", "an engine")


def turn(heard: Hearsay, said: bytes) -> None:
    os.write(heard.writing, said)
    heard._reactor.turn()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"help\n", "help"),
        (b"s6-tlsd-io: fatal: unable to go on\n", "unable to go on"),
        (b"s6-tcpserver-access: info: allow pid 1\nand more\n", "allow pid 1"),
        (b"no end \x1b[2J\xff", r"no end \x1b[2J\xff"),
        (b"x" * 2000, "x" * 400),
        (b"\n", ""),
    ],
)
def test_the_first_line_is_logged_as_theirs(
    heard: Hearsay, said: bytes, shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    turn(heard, said)
    assert capfd.readouterr().err == f"{HEARD}{shown}\n"


def test_what_comes_within_a_minute_is_dropped(
    heard: Hearsay, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearsay, "_REST_S", 0.05)
    turn(heard, b"first\n")
    turn(heard, b"second\n")
    heard._reactor.turn()  # waits until the rest is over
    turn(heard, b"third\n")
    assert capfd.readouterr().err == f"{HEARD}first\n{HEARD}third\n"


def test_a_pipe_that_is_full_makes_nobody_wait(heard: Hearsay) -> None:
    turn(heard, b"first\n")
    with pytest.raises(BlockingIOError):
        while True:
            os.write(heard.writing, bytes(65536))
