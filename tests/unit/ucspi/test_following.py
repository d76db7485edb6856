"""A session is followed to its end, and abandoned when whoever holds it hangs."""

from __future__ import annotations

import os

from s6tls.posix.reactor import Reactor
from s6tls.ucspi.following import follow
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.log import Told

SILENCE_S = 0.02


class Pipe:
    """A session that lasts as long as a pipe."""

    failure: StageExit | None = None
    traffic = 0, 0

    def __init__(self, silence_s: float) -> None:
        self.fd, self.writing = os.pipe2(os.O_NONBLOCK)
        self.silence_s, self.abandoned, self.heard = silence_s, False, 0

    def resume(self) -> bool | None:
        try:
            data = os.read(self.fd, 100)
        except BlockingIOError:
            return False
        self.heard += len(data)
        return None if data else True

    def told(self) -> Told:
        return Told("")

    def abandon(self) -> None:
        self.abandoned = True

    def close(self) -> None:
        os.close(self.fd)

    def follow(self, shows: int) -> None:
        """Follow it to its end, which comes after it has shown so often that it does not hang; or never."""
        reactor = Reactor()

        def show(left: int) -> None:
            if left:
                os.write(self.writing, b"!")
                reactor.after(SILENCE_S / 4, lambda: show(left - 1))
            elif shows:
                os.close(self.writing)

        follow(reactor, self, reactor.stop)
        show(shows)
        reactor.run()
        reactor.close()


def test_a_session_that_shows_life_is_left_alone() -> None:
    session = Pipe(SILENCE_S)
    session.follow(shows=40)
    assert not session.abandoned


def test_a_session_that_is_silent_is_abandoned() -> None:
    session = Pipe(SILENCE_S)
    session.follow(shows=0)
    assert session.abandoned
    os.close(session.writing)


def test_nobody_asks_where_there_is_no_bound() -> None:
    session = Pipe(0)
    session.follow(shows=1)
    assert not session.abandoned


def test_a_session_that_never_stops_showing_life_costs_a_look_now_and_then() -> None:
    class Talker(Pipe):
        """There is always more to take in."""

        looks = 0

        def resume(self) -> None:
            self.looks += 1
            self.heard += 1

    session, reactor = Talker(SILENCE_S), Reactor()
    follow(reactor, session, reactor.stop)
    reactor.after(5 * SILENCE_S, reactor.stop)
    reactor.run()
    assert 1 <= session.looks <= 5 and not session.abandoned
    reactor.close()
    session.close()
    os.close(session.writing)
