"""A server's helper: what is done about one that hangs, keeps ending, or merely has enough to do."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from s6tls.helper import supervised
from s6tls.helper.helper import LookupHelper
from s6tls.helper.supervised import SupervisedHelper
from s6tls.posix.reactor import READABLE, Reactor
from tests.support.fresh.altered import alter
from tests.support.kin import children
from tests.support.nameserver import Asked, Puppet
from tests.support.servers import PATIENCE
from tests.support.site import replace

SILENT = "127.9.0.13"
FOUND = b"REMOTEHOST=n1.test\0\0"


@pytest.fixture
def puppet() -> Iterator[Puppet]:
    """A name server that knows all but one."""
    with Puppet(lambda asked: None if asked.name.startswith("13.") else named(asked)) as started:
        yield started


def named(asked: Asked) -> bytes:
    return asked.names(f"n{asked.name.partition('.')[0]}.test")


class Server:
    """The server's side: an event loop, and children that end."""

    def __init__(self, dns: str) -> None:
        self.reactor = Reactor()
        self.helper = LookupHelper(self.reactor)
        self._dns = dns
        self._of_others = children(os.getpid())
        self.replies: list[bytes] = []

    @property
    def pid(self) -> int:
        """Of the helper; 0 if there is none."""
        assert isinstance(self.helper._helper, SupervisedHelper)
        at_work = self.helper._helper._at_work
        return 0 if at_work is None else at_work.pid

    def _children(self) -> list[int]:
        return [pid for pid in children(os.getpid()) if pid not in self._of_others]

    def ask(self, about: str, **more: bool) -> None:
        """Ask for a name; the reply will be in `replies`, empty if nobody gives one."""
        lookup = {"remote": about, "local": about, "local_name": False, **more}
        fd = self.helper.look_up("test", lookup, 0, [self._dns])

        def hear(_: int) -> None:
            self.reactor.forget(fd)
            self.replies.append(os.read(fd, 4096))
            os.close(fd)

        self.reactor.watch(fd, READABLE, hear)

    def until(self, done: Callable[[], bool]) -> None:
        """Be at work until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline
            self.reactor.after(0.02, lambda: None)
            self.reactor.turn()
            for child in self._children():
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    self.helper.reaped(pid, status)

    def close(self) -> None:
        self.helper.close()
        for child in self._children():
            os.waitpid(child, 0)
        self.reactor.close()


@pytest.fixture
def server(puppet: Puppet) -> Iterator[Server]:
    server = Server(puppet.address)
    yield server
    server.close()


def test_one_that_is_stopped_is_killed_and_what_it_has_not_taken_goes_to_the_next(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervised, "PATIENCE_S", 0.3)
    server.ask("127.9.0.1")
    server.until(lambda: server.replies == [FOUND])
    stopped = server.pid
    os.kill(stopped, signal.SIGSTOP)
    os.waitid(os.P_PID, stopped, os.WSTOPPED)
    for _ in range(3):
        server.ask("127.9.0.1")
    server.until(lambda: server.replies == [FOUND] * 4)
    assert server.pid not in (0, stopped)
    assert not os.path.exists(f"/proc/{stopped}")
    line = "s6tls: warning: the lookup helper takes no requests for 0.3 s: replacing it\n"
    assert capfd.readouterr().err == line


def test_one_that_has_as_many_requests_as_it_takes_is_not_taken_for_one_that_hangs(
    puppet: Puppet, server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervised, "PATIENCE_S", 1.5)
    alter(monkeypatch, {"s6tls.helper.serving.BUSY_S": 0.1, "s6tls.helper.serving.MOST_REQUESTS": 5})
    for _ in range(5):
        server.ask(SILENT)
    server.until(lambda: puppet.asked.qsize() >= 5)
    busy = server.pid
    for _ in range(3):
        server.ask("127.9.0.1")
    then = time.monotonic() + 3
    server.until(lambda: time.monotonic() > then)
    assert (server.pid, server.replies) == (busy, [])
    os.kill(busy, signal.SIGSTOP)
    server.until(lambda: server.replies.count(FOUND) == 3)
    assert server.replies.count(b"") == 5
    assert "takes no requests for 1.5 s" in capfd.readouterr().err


def test_one_that_keeps_dying_is_started_ever_more_slowly_and_no_request_is_lost(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.ask("127.9.0.1")
    server.until(lambda: len(server.replies) == 1)
    rests = []
    for number in range(3):
        dead = server.pid
        os.kill(dead, signal.SIGKILL)
        server.until(partial(has_gone, server, dead))
        died = time.monotonic()
        server.ask("127.9.0.1")
        server.until(partial(has_replies, server, number + 2))
        rests.append(time.monotonic() - died)
    assert rests[0] >= 0.18 and rests[1] >= 0.38 and rests[2] >= 0.78
    err = capfd.readouterr().err
    assert err.count("\n") == err.count("lookup helper") == 1
    assert err.endswith("was ended by SIGKILL\n")


def has_gone(server: Server, pid: int) -> bool:
    return server.pid != pid


def has_replies(server: Server, number: int) -> bool:
    return server.replies == [FOUND] * number


def test_a_file_of_lookups_that_is_replaced_can_be_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jail knows files, not names."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o711)  # the helper is nobody's
        hosts = f"{place}/hosts"
        monkeypatch.setattr(supervised, "LOOKUP_FILES", (hosts,))
        alter(monkeypatch, {"s6tls.helper.lookup._HOSTS": hosts, "s6tls.posix.jail.LOOKUP_FILES": (hosts,)})
        for number, name in enumerate((b"one.test", b"two.test"), 1):
            replace(hosts, b"%b %b\n" % (SILENT.encode(), name))
            server.ask(SILENT, hosts=True)
            server.until(partial(has_replied, server, number))
            assert server.replies[-1] == b"REMOTEHOST=%b\0\0" % name


def has_replied(server: Server, number: int) -> bool:
    return len(server.replies) == number
