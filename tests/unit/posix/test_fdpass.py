"""Messages and descriptors on their way to another process: in order, none lost, none left open."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest

from s6tls.posix.fdpass import DescriptorSender, control_pair

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
