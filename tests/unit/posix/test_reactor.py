"""The event loop."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from functools import partial

import pytest

from s6tls.posix.reactor import READABLE, WRITABLE, Reactor
from tests.support.children import in_child
from tests.support.kernel.forgetful import Forgetful


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def test_what_soon_is_asked_for_is_called_in_order_and_in_another_turn(reactor: Reactor) -> None:
    order: list[str] = []

    def first() -> None:
        reactor.soon(lambda: order.append("third"))
        reactor.soon(reactor.stop)
        order.append("first")

    reactor.soon(first)
    reactor.soon(lambda: order.append("second"))
    reactor.run()
    assert order == ["first", "second", "third"]


def test_timers_are_called_when_they_are_due_and_equal_ones_in_order(reactor: Reactor) -> None:
    order: list[str] = []
    reactor.after(0.03, lambda: order.append("late"))
    reactor.after(0.03, reactor.stop)
    reactor.after(0.01, lambda: order.append("early"))
    reactor.after(0, lambda: order.append("now"))
    reactor.after(0, lambda: order.append("then"))
    reactor.run()
    assert order == ["now", "then", "early", "late"]


def test_a_cancelled_timer_is_not_called_and_not_waited_for(reactor: Reactor) -> None:
    called: list[str] = []
    for seconds in (0.0, 3600.0):
        timer = reactor.after(seconds, lambda: called.append("cancelled"))
        timer.cancel()
        timer.cancel()
    reactor.after(0.01, reactor.stop)
    reactor.run()
    assert called == []


def test_a_descriptor_is_told_of_once_until_more_arrives(
    reactor: Reactor, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    told: list[bytes] = []

    def readable(events: int) -> None:
        assert events & READABLE
        told.append(ours.recv(1))
        if len(told) == 1:
            reactor.after(0.02, lambda: theirs.send(b"c"))
        else:
            reactor.stop()

    reactor.watch(ours.fileno(), READABLE, readable)
    theirs.send(b"ab")
    reactor.run()
    assert told == [b"a", b"b"]  # b was there all the while, and was told of when c came


def test_end_of_file_and_writability_are_events(reactor: Reactor, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    events: list[int] = []

    def changed(what: int) -> None:
        events.append(what)
        if what & READABLE:
            reactor.stop()
        else:
            theirs.close()

    reactor.watch(ours.fileno(), READABLE | WRITABLE, changed)
    reactor.run()
    assert events[0] == WRITABLE
    assert events[1] & READABLE
    assert ours.recv(1) == b""


def test_a_forgotten_descriptor_is_not_told_of(reactor: Reactor, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reactor.watch(ours.fileno(), READABLE, lambda _: pytest.fail("told of a forgotten descriptor"))
    theirs.send(b"x")
    reactor.forget(ours.fileno())
    reactor.forget(ours.fileno())
    reactor.after(0.01, reactor.stop)
    reactor.run()


def test_one_callback_may_forget_another_descriptor_of_the_same_turn(reactor: Reactor) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    told: list[int] = []

    def forget_the_other(me: int, _events: int) -> None:
        told.append(me)
        reactor.forget(pairs[1 - me][0].fileno())

    for i, (ours, theirs) in enumerate(pairs):
        reactor.watch(ours.fileno(), READABLE, partial(forget_the_other, i))
        theirs.send(b"x")
    reactor.after(0.01, reactor.stop)
    reactor.run()
    assert len(told) == 1
    for end in (end for pair in pairs for end in pair):
        end.close()


def test_an_event_is_not_told_to_the_next_owner_of_its_number(reactor: Reactor) -> None:
    """Both descriptors are ready in one turn; the first callback closes the other, whose number is given out again."""
    told: list[str] = []
    first_out, first_in = os.pipe()
    old_out, old_in = os.pipe()

    def replace_the_other(_: int) -> None:
        told.append("first")
        reactor.forget(first_out)
        reactor.forget(old_out)
        os.dup2(quiet_out, old_out)
        reactor.watch(old_out, READABLE, lambda _: told.append("next owner"))

    quiet_out, quiet_in = os.pipe()
    reactor.watch(first_out, READABLE, replace_the_other)
    reactor.watch(old_out, READABLE, lambda _: told.append("old owner"))
    os.write(first_in, b"x")
    os.close(old_in)
    reactor.after(0.01, reactor.stop)
    reactor.run()
    assert told in (["first"], ["old owner", "first"])
    for fd in (first_out, first_in, old_out, quiet_out, quiet_in):
        os.close(fd)


def test_signals_are_called_back_from_the_loop() -> None:
    def body() -> list[str]:
        reactor, heard = Reactor(), list[str]()
        reactor.watch_signals(
            {
                signal.SIGUSR1: lambda: heard.append("USR1"),
                signal.SIGUSR2: lambda: heard.append("USR2"),
                signal.SIGTERM: reactor.stop,
            }
        )
        for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
        heard.append("loop")
        reactor.after(0, lambda: os.kill(os.getpid(), signal.SIGTERM))
        reactor.run()
        return heard

    assert in_child(body) == repr(["loop", "USR1", "USR2"])


def test_run_can_be_called_again(reactor: Reactor) -> None:
    turns: list[int] = []
    for turn in range(3):
        reactor.soon(partial(turns.append, turn))
        reactor.soon(reactor.stop)
        reactor.run()
    assert turns == [0, 1, 2]


@pytest.mark.parametrize("exclusive", [0, select.EPOLLEXCLUSIVE])
def test_what_there_was_no_memory_to_tell_is_told_again_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket], exclusive: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(select, "epoll", Forgetful)
        reactor = Reactor()
    Forgetful.armed = True
    Forgetful.go.set()
    ours, theirs = pair
    told: list[str] = []
    quiet, writing = os.pipe()
    reactor.watch(ours.fileno(), READABLE | exclusive, lambda _: told.append("readable"))
    reactor.watch(quiet, READABLE, lambda _: told.append("ended"))
    theirs.send(b"x")
    reactor.turn()
    assert told == []
    reactor.turn()
    assert told == ["readable"]
    os.close(writing)
    reactor.turn()
    assert told == ["readable", "ended"]
    reactor.close()
    os.close(quiet)
