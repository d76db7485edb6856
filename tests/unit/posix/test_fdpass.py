"""Messages and descriptors on their way to another process: in order, none lost, none left open."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from s6tls.posix.descriptors import count_under_way, soft_limit
from s6tls.posix.fdpass import DescriptorSender, control_pair, put_away, take_out
from s6tls.posix.linux import capabilities
from s6tls.posix.reactor import Reactor, Timer

CROWD = 2000
FILL = b"x" * 4000
"""More and larger messages than a control socket takes at once."""


@pytest.fixture
def ends() -> Iterator[tuple[DescriptorSender, socket.socket]]:
    ours, theirs = control_pair()
    ours.setblocking(False)
    theirs.setblocking(False)
    sender = DescriptorSender(ours)
    with theirs:
        yield sender, theirs
        sender.close()


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


def take(theirs: socket.socket) -> tuple[bytes, str]:
    """Receive one message and what its descriptor says."""
    message, (fd,), _, _ = socket.recv_fds(theirs, 100, 2)
    try:
        return message, os.read(fd, 100).decode()
    finally:
        os.close(fd)


def paper(text: str) -> int:
    """Return a descriptor that says `text`."""
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    return reading


def test_a_message_arrives_with_its_descriptors(ends: tuple[DescriptorSender, socket.socket]) -> None:
    sender, theirs = ends
    fd = paper("hello")
    sender.send(b"one", [fd])
    assert not is_open(fd)
    assert take(theirs) == (b"one", "hello")


def test_what_is_not_taken_yet_waits_and_keeps_its_order(ends: tuple[DescriptorSender, socket.socket]) -> None:
    sender, theirs = ends
    for number in range(CROWD):
        last = [paper("")] if number % 100 == 99 else []
        sender.send(b"%d %b" % (number, FILL), last)
    assert is_open(*last)
    poll = select.epoll()
    poll.register(sender.control, select.EPOLLOUT | select.EPOLLET)
    received = 0
    while received < CROWD:
        try:
            message, fds, _, _ = socket.recv_fds(theirs, 8000, 1)
        except BlockingIOError:
            assert poll.poll(20), "nobody says that there is room again"
            sender.flush()
            continue
        assert (message, len(fds)) == (b"%d %b" % (received, FILL), received % 100 == 99)
        for fd in fds:
            os.close(fd)
        received += 1
    poll.close()


def test_when_the_other_process_is_gone_the_descriptors_are_still_the_callers(
    ends: tuple[DescriptorSender, socket.socket],
) -> None:
    sender, theirs = ends
    theirs.close()
    fd = paper("")
    with pytest.raises(ConnectionError):
        sender.send(b"one", [fd])
    assert is_open(fd)
    os.close(fd)
    sender.flush()


class Later(Reactor):
    """Leaves it to the test to call what is due in a while."""

    def __init__(self, due: list[Callable[[], object]]) -> None:
        super().__init__()
        self._due = due

    def after(self, seconds: float, callback: Callable[[], object]) -> Timer:
        self._due.append(callback)
        return Timer(callback)


def test_what_may_not_be_under_way_yet_is_sent_later(ends: tuple[DescriptorSender, socket.socket]) -> None:
    sender, theirs = ends
    due: list[Callable[[], object]] = []
    later = Later(due)
    others, waiting = [paper(""), paper("")], [paper("one"), paper("two")]
    sender.send(b"before", [])
    assert theirs.recv(100) == b"before"

    def without_rights() -> None:
        capabilities.retain()  # of this thread
        assert count_under_way()
        with soft_limit(0):
            with pytest.raises(OSError, match="Too many references"):
                for fd in others:  # another process of this user may have the one that is let through
                    sender.send(b"others", [fd])
            sender.work_in(later, 0, sender.flush)
            for fd in waiting:
                sender.send(b"waited", [fd])

    with ThreadPoolExecutor(1) as apart:
        apart.submit(without_rights).result()
    for fd in filter(is_open, others):
        os.close(fd)
    (again,) = due
    again()
    received = []
    with contextlib.suppress(BlockingIOError):
        while True:
            received.append(take(theirs))
    assert received[-2:] == [(b"waited", "one"), (b"waited", "two")]
    sender.close()
    later.close()


def test_without_room_to_weigh_it_a_message_is_not_sent(ends: tuple[DescriptorSender, socket.socket]) -> None:
    sender, theirs = ends
    fd = paper("one")
    message = b"of a length that none had"
    with soft_limit(3), pytest.raises(OSError, match="Too many open files"):
        sender.send(message, [fd])
    sender.send(message, [fd])
    assert take(theirs) == (message, "one")


def test_closing_drops_what_waits(ends: tuple[DescriptorSender, socket.socket]) -> None:
    sender, theirs = ends
    for _ in range(CROWD):
        sender.send(FILL, [])
    fd = paper("")
    sender.send(b"last", [fd])
    assert is_open(fd)
    sender.close()
    assert not is_open(fd)
    while message := theirs.recv(8000):
        assert message == FILL


def test_what_is_put_away_can_be_taken_out() -> None:
    first, second = paper("one"), paper("two")
    holder = put_away((first, second))
    assert not is_open(first) and not is_open(second)
    for fd, said in zip(take_out(holder, 2), ("one", "two"), strict=True):
        assert os.read(fd, 100).decode() == said
        assert not os.get_inheritable(fd)
        os.close(fd)
    assert not is_open(holder)


def test_what_is_put_away_goes_with_its_holder() -> None:
    reading, writing = os.pipe()
    os.close(put_away([reading]))
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


def test_without_room_nothing_is_lost_on_the_way() -> None:
    fd = paper("one")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            put_away([fd])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    holder = put_away([fd])
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            take_out(holder, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(holder)
