"""Questions on their way to name servers: from which port, to whom first, how often, and what is left of them."""

from __future__ import annotations

import os
import socket

from s6tls.helper.resolver import Resolver
from s6tls.posix.reactor import Reactor
from tests.support.nameserver import REFUSED, Asked, Puppet, reverse
from tests.support.processes import await_that
from tests.support.servers import PATIENCE

CLIENT = "127.9.0.1"


def call_it_a(asked: Asked) -> bytes:
    return asked.names("a.test")


def test_a_question_that_cannot_be_asked_is_answered_once() -> None:
    reactor = Reactor()
    answers: list[tuple[list[bytes], bool]] = []

    def answer(found: list[bytes], why: str) -> None:
        answers.append((found, bool(why)))
        reactor.soon(reactor.stop)

    resolver = Resolver(reactor, ["127.0.0.1"])
    resolver.addresses(b"a" * 64 + b".test", socket.AF_INET, answer)
    reactor.run()
    reactor.close()
    assert answers == [([], True)]


def test_a_question_that_is_cancelled_leaves_nothing() -> None:
    reactor = Reactor()
    before = len(os.listdir("/proc/self/fd"))
    with Puppet(lambda _: None) as puppet:
        cancel = Resolver(reactor, [puppet.address], [0.01] * 99).names(socket.inet_aton(CLIENT), unexpected)
        reactor.turn()
        puppet.await_question(CLIENT)
        cancel()
        after = reactor.after(0.05, reactor.stop)
        reactor.run()
        after.cancel()
        assert puppet.asked.empty()
    await_that(lambda: len(os.listdir("/proc/self/fd")) <= before)
    reactor.close()


def unexpected(found: list[bytes], why: str) -> None:
    raise AssertionError(f"answered: {found} {why}")


def test_each_question_goes_out_from_a_port_of_its_own_also_when_it_is_asked_again() -> None:
    with Puppet(lambda _: None) as puppet:
        reactor = Reactor()
        failures: list[str] = []

        def failed(_: list[bytes], why: str) -> None:
            failures.append(why)
            if len(failures) == 10:
                reactor.stop()

        resolver = Resolver(reactor, [puppet.address], (0.01, 0.02, 0.04))
        for number in range(10):
            resolver.names(bytes([127, 9, 0, number]), failed)
        reactor.run()
        reactor.close()
        assert failures == ["Timeout while contacting DNS servers"] * 10
        asked = [puppet.asked.get(timeout=PATIENCE) for _ in range(30)]
    assert len({one.port for one in asked}) >= 28  # the kernel may give a port that is free again to another
    assert len({one.data[:2] for one in asked}) >= 28


def test_of_many_questions_side_by_side_none_takes_anothers_socket_away() -> None:
    """Numbers of sockets are given out again at once; who asks but once hears of it."""
    with Puppet(call_it_a) as puppet:
        reactor = Reactor()
        resolver = Resolver(reactor, [puppet.address], [PATIENCE])
        left = 1000
        found: set[bytes] = set()

        def answered(names: list[bytes], why: str) -> None:
            nonlocal left
            found.update(names or [why.encode()])
            left -= 1
            if left >= 20:
                resolver.names(bytes([127, 9, 1, left % 250]), answered)
            elif left == 0:
                reactor.stop()

        for number in range(20):
            resolver.names(bytes([127, 9, 0, number]), answered)
        reactor.run()
        reactor.close()
    assert found == {b"a.test"}


def test_answers_are_not_remembered() -> None:
    with Puppet(call_it_a) as puppet:
        reactor = Reactor()
        resolver = Resolver(reactor, [puppet.address])
        for _ in range(3):
            resolver.names(socket.inet_aton(CLIENT), lambda _found, _why: reactor.stop())
            reactor.run()
        reactor.close()
        assert [puppet.asked.get(timeout=PATIENCE).name for _ in range(3)] == [reverse(CLIENT)] * 3


def test_the_name_server_that_answered_is_asked_first_the_next_time() -> None:
    with Puppet(lambda asked: asked.reply(code=REFUSED)) as unwilling, Puppet(call_it_a) as talking:
        reactor = Reactor()
        resolver = Resolver(reactor, [unwilling.address, talking.address])
        for _ in range(3):
            resolver.names(socket.inet_aton(CLIENT), lambda _found, _why: reactor.stop())
            reactor.run()
        reactor.close()
        assert (unwilling.asked.qsize(), talking.asked.qsize()) == (1, 3)
