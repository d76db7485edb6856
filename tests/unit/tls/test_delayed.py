"""Delayed encryption: what an engine waits for, and how its session ends."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from s6tls.posix.reactor import Reactor
from s6tls.tls import session
from s6tls.tls.credentials import SessionOptions
from s6tls.tls.delayed import await_command
from s6tls.tls.ends import Descriptors
from s6tls.tls.engines import engine
from tests.support import pki
from tests.support.tls.memory import client_context

DELAYED = SessionOptions(delayed=True)


class World:
    """A session's ends with what is at the other side of each."""

    def __init__(self) -> None:
        self.cleanup = contextlib.ExitStack()
        network, self.client = socket.socketpair()
        self.control, command = socket.socketpair()
        self.stdin, to_app = os.pipe()
        from_app, self.stdout = os.pipe()
        net = network.detach()
        self.fds = Descriptors(net, net, from_app, to_app, command.detach())
        for end in (self.client, self.control):
            end.settimeout(5)
            self.cleanup.enter_context(end)
        self.cleanup.callback(self.exit)

    def exit(self) -> None:
        """End as a program does."""
        for fd in {self.stdin, self.stdout} - {-1}:
            os.close(fd)
        self.stdin = self.stdout = -1

    def outcome(self) -> tuple[list[Descriptors], list[int]]:
        """Wait for a command; return what began and the exit code, one of which is there."""
        reactor = Reactor()
        begun: list[Descriptors] = []
        ended: list[int] = []

        def begin(fds: Descriptors) -> None:
            begun.append(fds)
            reactor.stop()

        def end(code: int) -> None:
            ended.append(code)
            reactor.stop()

        await_command(reactor, self.fds, begin, end)
        reactor.run()
        reactor.close()
        for fds in begun:
            self.cleanup.callback(fds.close)
        return begun, ended


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.cleanup:
        yield world


def test_y_begins_without_a_word(world: World) -> None:
    world.control.sendall(b"y")
    begun, ended = world.outcome()
    assert ([fds.notify for fds in begun], ended) == ([None], [])
    assert world.control.recv(1) == b""


def test_capital_y_begins_with_a_report_to_come(world: World) -> None:
    world.control.sendall(b"Y")
    assert world.outcome() == ([world.fds], [])
    assert os.get_blocking(world.fds.numbers[-1])


def test_what_the_client_has_sent_stays_and_flags_are_left_alone(world: World) -> None:
    """The program reads from the same connection until it gives the command."""
    world.client.sendall(b"in clear")
    world.control.sendall(b"Y")
    world.outcome()
    assert os.get_blocking(world.fds.net_in)
    assert os.read(world.fds.net_in, 100) == b"in clear"


@pytest.mark.parametrize("end", [socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_program_that_lets_go_of_the_control_socket_ends_the_engine_quietly(
    world: World, end: int, capfd: pytest.CaptureFixture[str]
) -> None:
    world.control.shutdown(end)
    assert world.outcome() == ([], [0])
    assert world.client.recv(1) == b"" and os.read(world.stdin, 1) == b""
    assert capfd.readouterr().err == ""


def test_another_command_is_100(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    context = engine.confine_and_load(pki.parameters(DELAYED), pki.credentials(default=pki.pair()))
    world.control.sendall(b"z")
    assert engine.run(context, DELAYED, world.fds) == 100
    assert capfd.readouterr().err == "s6-tlsd-io: fatal: unrecognized command on control socket\n"


def test_a_session_that_breaks_ends_the_connection_that_the_program_still_has(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_REFUSED_STALL_TIMEOUT", 0.02)  # the client does not close its end
    held = os.dup(world.fds.net_in)
    world.cleanup.callback(os.close, held)
    context = engine.confine_and_load(pki.parameters(DELAYED), pki.credentials(default=pki.pair()))
    world.client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    world.control.sendall(b"Y")
    assert engine.run(context, DELAYED, world.fds) == 97
    assert world.control.recv(1) == b""
    while world.client.recv(100):
        pass
    with pytest.raises(BrokenPipeError):
        os.write(held, b"in clear")


def test_a_program_that_ends_during_the_handshake_ends_the_engine(world: World) -> None:
    """A client that never goes on holds nothing."""
    context = engine.confine_and_load(pki.parameters(DELAYED), pki.credentials(default=pki.pair()))
    world.control.sendall(b"y")
    world.exit()
    assert engine.run(context, DELAYED, world.fds) == 0
    assert world.client.recv(1) == b""


def test_what_a_program_has_left_is_sent_all_the_same(world: World) -> None:
    context = engine.confine_and_load(pki.parameters(DELAYED), pki.credentials(default=pki.pair()))
    world.control.sendall(b"y")
    os.write(world.stdout, b"goodbye")
    world.exit()
    heard: list[bytes] = []

    def talk() -> None:
        world.client.settimeout(None)
        tls = SSL.Connection(client_context(), world.client)
        tls.set_connect_state()
        tls.do_handshake()
        heard.append(tls.recv(100))
        world.client.shutdown(socket.SHUT_WR)

    client = threading.Thread(target=talk)
    client.start()
    code = engine.run(context, DELAYED, world.fds)
    client.join()
    assert (code, heard) == (0, [b"goodbye"])
