"""A program's socket, seen from the session: each direction ends as that of a pipe does."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator

import pytest

from s6tls.tls.ends import FromProgramSocket, ToProgramSocket


class Pair:
    def __init__(self) -> None:
        ours, self.program = socket.socketpair()
        self.output, self.input = FromProgramSocket(ours.dup()), ToProgramSocket(ours)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.program.close()


def close(pair: Pair) -> None:
    pair.output.close()
    pair.input.close()


def test_a_program_that_lives_has_ended_nothing(pair: Pair) -> None:
    pair.program.send(b"abc")
    assert (pair.output.unread(), pair.output.writer_is_gone(), pair.output.has_ended()) == (3, False, False)
    assert not pair.input.reader_is_gone()
    assert pair.input.write(deque([b"one", b"two"])) == pair.input.count == 6
    assert (pair.output.read(100), pair.output.count, pair.program.recv(100)) == (b"abc", 3, b"onetwo")
    with pytest.raises(BlockingIOError):
        pair.output.read(100)
    close(pair)


def test_a_full_socket_has_its_reader_still(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        while True:
            pair.input.write(deque([bytes(65536)]))
    assert not pair.input.reader_is_gone()
    close(pair)


def test_a_program_may_shut_down_either_direction(pair: Pair) -> None:
    pair.program.send(b"last")
    pair.program.shutdown(socket.SHUT_WR)
    assert (pair.output.writer_is_gone(), pair.output.has_ended(), pair.input.reader_is_gone()) == (True, False, False)
    assert (pair.output.read(100), pair.output.read(100), pair.output.has_ended()) == (b"last", b"", True)
    pair.program.shutdown(socket.SHUT_RD)
    assert pair.input.reader_is_gone()
    close(pair)


def test_what_a_program_wrote_is_there_though_it_read_nothing_and_is_gone(pair: Pair) -> None:
    pair.input.write(deque([b"unheard"]))
    pair.program.send(b"answer")
    pair.program.close()
    assert pair.output.writer_is_gone() and pair.input.reader_is_gone()
    assert (pair.output.read(100), pair.output.read(100)) == (b"answer", b"")
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        pair.input.write(deque([b"more"]))
    close(pair)


def test_a_program_is_told_of_each_end_and_never_of_a_reset(pair: Pair) -> None:
    pair.program.send(bytes(100_000))
    pair.input.write(deque([b"request"]))
    pair.output.close()
    with pytest.raises(BrokenPipeError):
        pair.program.send(b"more")
    pair.input.close()
    assert (pair.program.recv(100), pair.program.recv(100)) == (b"request", b"")
