"""Taking clients from a listening socket: all of them, but none for whom there is no slot."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from s6tls.posix.reactor import Reactor
from s6tls.ucspi.acceptor import Acceptor
from s6tls.ucspi.ledger import Client, Ledger, Limits
from s6tls.ucspi.log import Log
from tests.support.servers import PATIENCE

CROWD = 100
"""More than are accepted in one turn."""


class Door:
    """An acceptor at work, and the clients it has taken."""

    def __init__(self, total: int) -> None:
        self.reactor = Reactor()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=CROWD)
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()
        self.ledger = Ledger(Limits(total, total), Log("server", 1), self.reactor.after)
        self.acceptor = Acceptor(self.reactor, self.listener, self.ledger, self.take)
        self.taken: list[Client] = []
        self.expected = 0
        self.acceptor.start()

    def take(self, accepted: int, client: Client) -> None:
        os.close(accepted)
        self.ledger.admit(client)
        self.taken.append(client)
        if len(self.taken) == self.expected:
            self.reactor.stop()

    def connect(self) -> Client:
        with socket.create_connection(self.address, PATIENCE) as client:
            return Client(*client.getsockname())

    def await_clients(self, number: int) -> None:
        """Run until so many have been taken, and for as long as there is anything else to do at once."""
        self.expected = number
        overdue = self.reactor.after(PATIENCE, self.reactor.stop)
        if len(self.taken) < number:
            self.reactor.run()
        overdue.cancel()
        self.idle()

    def idle(self) -> None:
        self.reactor.after(0, lambda: None)
        self.reactor.turn()


@contextlib.contextmanager
def door(total: int) -> Iterator[Door]:
    opened = Door(total)
    yield opened
    opened.acceptor.close()
    opened.reactor.close()


def test_a_crowd_is_taken_in_order() -> None:
    with door(CROWD) as opened:
        clients = [opened.connect() for _ in range(CROWD)]
        opened.await_clients(CROWD)
        assert opened.taken == clients


def test_without_a_slot_clients_wait_until_there_is_one() -> None:
    with door(2) as opened:
        clients = [opened.connect() for _ in range(4)]
        opened.await_clients(2)
        assert opened.taken == clients[:2]
        opened.ledger.release(clients[0])
        opened.acceptor.resume()
        opened.await_clients(3)
        assert opened.taken == clients[:3]


def test_when_closed_it_takes_nobody() -> None:
    with door(1) as opened:
        clients = [opened.connect() for _ in range(2)]
        opened.await_clients(1)
        opened.ledger.release(clients[0])
        opened.acceptor.resume()
        opened.acceptor.close()
        opened.acceptor.close()
        opened.idle()
        assert opened.taken == clients[:1]
        with pytest.raises(ConnectionRefusedError):
            opened.connect()


@contextlib.contextmanager
def no_descriptor_left(but: int = 0) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(2)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + but, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


LIMIT = "server: warning: limit -c reached: 1 connections, 0 of them in a handshake\n"
FAILED = "server: warning: unable to accept: Too many open files\n"


@pytest.mark.parametrize("left", [0, 1, 4])
def test_a_server_without_descriptors_tries_again(left: int, capfd: pytest.CaptureFixture[str]) -> None:
    """It takes nobody whom a stage would have to refuse."""
    with door(1) as opened:
        client = opened.connect()
        with no_descriptor_left(but=left):
            opened.idle()
        assert capfd.readouterr().err == FAILED
        opened.await_clients(1)
        assert opened.taken == [client]


def test_clients_that_arrive_meanwhile_cause_neither_lines_nor_attempts(capfd: pytest.CaptureFixture[str]) -> None:
    with door(CROWD) as opened:
        clients = [opened.connect()]
        with no_descriptor_left():
            opened.idle()
        for _ in range(20):
            clients.append(opened.connect())
            opened.idle()
        assert opened.taken == []
        assert capfd.readouterr().err == FAILED
        opened.await_clients(len(clients))
        assert opened.taken == clients


def test_what_is_freed_ends_the_pause(capfd: pytest.CaptureFixture[str]) -> None:
    with door(CROWD) as opened:
        client = opened.connect()
        with no_descriptor_left():
            opened.idle()
        opened.acceptor.resume()
        opened.idle()
        assert opened.taken == [client]
        assert capfd.readouterr().err == FAILED


def test_that_the_limit_is_reached_is_said_once_a_minute(capfd: pytest.CaptureFixture[str]) -> None:
    with door(1) as opened:
        clients = [opened.connect() for _ in range(3)]
        for number in range(1, 4):
            opened.await_clients(number)
            opened.ledger.release(clients[number - 1])
            opened.acceptor.resume()
        assert capfd.readouterr().err == LIMIT
