"""The rim over real sockets and pipes: what happens to the bytes when peers are slow, hasty, rude or gone."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable

import pytest
from OpenSSL import SSL

from s6tls.posix.reactor import Reactor
from s6tls.tls.ends import Descriptors, Ends
from s6tls.tls.owner import Owner
from s6tls.tls.pump import Pump, TLSFailure
from s6tls.tls.session import Session
from tests.support.servers import PATIENCE
from tests.support.tls.memory import EACH_VERSION, client_context, server_context
from tests.support.tls.sessions import MB, World, data_of

# The ordinary course


@EACH_VERSION
@pytest.mark.parametrize("close_notify", [False, True], ids=["half-close", "close_notify"])
def test_request_and_answer_of_megabytes_arrive(world: World, version: int, close_notify: bool) -> None:
    client, app = world.start(version, close_notify=close_notify)
    client.shake_hands()
    assert world.notification() == b"established" and world.notification() == b""
    heard = world.also(app.read_all)
    client.write(data_of(3 * MB))
    client.end_writing()
    assert heard.result(PATIENCE) == data_of(3 * MB)
    world.also(lambda: app.answer(data_of(3 * MB + 1)))
    assert client.read_all() == data_of(3 * MB + 1)
    assert client.closed_by_notify == close_notify
    client.close()
    assert world.failure() is None


@EACH_VERSION
def test_both_directions_flow_at_once(world: World, version: int) -> None:
    client, app = world.start(version)
    client.shake_hands()

    def echo() -> None:
        while data := app.read():
            app.write(data)
        app.exit()

    echoing = world.also(echo)
    client.write(data_of(100_000))
    client.end_writing()
    assert client.read_all() == data_of(100_000)
    echoing.result(PATIENCE)
    client.close()
    assert world.failure() is None


@EACH_VERSION
def test_an_application_that_writes_and_exits_loses_nothing_to_a_slow_reader(world: World, version: int) -> None:
    client, app = world.start(version, buffers=4096)
    client.shake_hands()
    app.end_reading()
    writing = world.also(lambda: app.answer(data_of(2 * MB)))
    received = b""
    while len(received) < MB:
        received += client.tls.recv(1000)
    writing_done = writing.done()
    received += client.read_all()
    assert received == data_of(2 * MB) and not writing_done
    client.close()
    assert world.failure() is None


def test_a_client_that_stops_reading_stops_the_application_and_holds_little(world: World) -> None:
    client, app = world.start(buffers=4096)
    client.shake_hands()
    written = 0
    client.write(b"go")
    assert app.read() == b"go"
    os.set_blocking(app._stdout.fileno(), False)
    stuck = threading.Event()

    def fill() -> None:
        nonlocal written
        poll = select.poll()
        poll.register(app._stdout, select.POLLOUT)
        while poll.poll(300):
            written += app._stdout.write(data_of(65536)) or 0
        stuck.set()

    world.also(fill)
    assert stuck.wait(PATIENCE)
    os.set_blocking(app._stdout.fileno(), True)
    assert written < MB
    client.write(b"still heard")
    assert app.read() == b"still heard"
    app.exit()
    assert client.read_all() == (data_of(65536) * (written // 65536 + 1))[:written]


# Hasty and rude clients


@EACH_VERSION
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_request_reaches_the_application_of_a_client_that_closes_at_once(
    world: World, version: int, size: int
) -> None:
    client, app = world.start(version)
    client.shake_hands()
    client.write(data_of(size))
    client.close()  # the tickets of TLS 1.3 are unread: the kernel resets the connection
    assert app.read_all() == data_of(size)
    app.exit()
    world.failure()


@EACH_VERSION
@pytest.mark.parametrize("demand", [False, True])
def test_what_came_before_a_reset_is_intact_and_the_session_ends(world: World, version: int, demand: bool) -> None:
    client, app = world.start(version, demand_close_notify=demand)
    client.shake_hands()
    client.write(data_of(100_000))
    received = app.read(1)
    client.reset()
    received += app.read_all()
    assert data_of(100_000).startswith(received)
    app.exit()
    failure = world.failure()
    if demand:
        assert failure is not None and not failure.during_handshake
    else:
        assert failure is None or str(failure) == "the peer is gone within a record"


def test_a_reset_that_takes_an_answer_out_of_the_kernel_is_a_failure(world: World) -> None:
    client, app = world.start(buffers=4096)
    client.shake_hands()
    assert world.notification()
    with socket.socket(fileno=os.dup(world.network)) as wide:
        wide.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MB)
    app.answer(data_of(300_000))
    assert client.tls.recv(1) == b"0"
    while client.socket.recv(1, socket.MSG_PEEK) and not world.sent_end():
        select.select([], [], [], 0.01)
    client.reset()
    failure = world.failure()
    assert failure is not None and not failure.during_handshake


def test_a_reset_that_takes_nothing_is_an_end(world: World) -> None:
    """The client has read everything, and its kernel may not have acknowledged that yet."""
    client, app = world.start()
    client.shake_hands()
    assert world.notification()
    app.answer(b"bye")
    assert client.tls.recv(100) == b"bye"
    client.reset()
    assert world.failure() is None


def test_a_reset_tells_a_writing_application(world: World) -> None:
    client, app = world.start(buffers=4096)
    client.shake_hands()
    assert world.notification()
    app.write(data_of(65536))  # more than the client takes: something is lost
    client.reset()
    with pytest.raises(BrokenPipeError):
        while True:
            app.write(data_of(65536))
    assert app.read_all() == b""
    app.exit()
    assert world.failure() is not None


@pytest.mark.parametrize("said", [0, 1, 5, 100, 200])
def test_an_end_of_file_within_the_handshake_is_a_failure_of_it(world: World, said: int) -> None:
    client, app = world.start()
    hello = SSL.Connection(client_context(), None)
    hello.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        hello.do_handshake()
    client.socket.sendall(hello.bio_read(65536)[:said])
    client.socket.shutdown(socket.SHUT_WR)
    failure = world.failure()
    assert failure is not None and failure.during_handshake
    assert world.notification() == b""
    assert app.read_all() == b""


def test_a_reset_within_the_handshake_is_a_failure_of_it(world: World) -> None:
    client, app = world.start()
    client.socket.sendall(b"\x16\x03\x01")
    client.reset()
    failure = world.failure()
    assert failure is not None and failure.during_handshake
    assert world.notification() == app.read_all() == b""


def test_an_alert_tells_the_client_why_its_handshake_failed(world: World) -> None:
    client, _ = world.start()
    client.socket.sendall(b"\x16\x03\x01\x00\x05hello")
    assert client.socket.recv(100)[:1] == b"\x15"
    assert client.socket.recv(100) == b""
    client.close()
    failure = world.failure()
    assert failure is not None and failure.during_handshake


@pytest.mark.parametrize("talking", [False, True])
def test_a_handshake_that_takes_too_long_is_ended(world: World, talking: bool) -> None:
    client, app = world.start(handshake_timeout=0.05)
    if talking:
        client.socket.sendall(b"\x16\x03\x01\x02\x00")
    failure = world.failure()
    assert failure is not None and failure.during_handshake
    assert str(failure) == "the handshake took too long"
    assert world.notification() == app.read_all() == client.socket.recv(1) == b""


def test_the_handshake_timeout_does_not_bound_the_session(world: World) -> None:
    client, app = world.start(handshake_timeout=0.3)
    client.shake_hands()
    assert world.notification()
    with pytest.raises(TimeoutError):
        world.ended.result(0.6)
    client.write(b"still here")
    assert app.read() == b"still here"


def test_a_report_that_nobody_hears_ends_the_session(world: World) -> None:
    client, app = world.start()
    with open("/dev/null", "rb") as nobody:
        os.dup2(nobody.fileno(), world.notified)
    with contextlib.suppress(SSL.Error):
        client.shake_hands()
    assert app.read_all() == b""
    client.close()
    failure = world.failure()
    assert failure is not None and failure.during_handshake


# Other descriptors


def test_a_socket_that_another_makes_blocking_blocks_nobody(world: World) -> None:
    client, app = world.start()
    client.shake_hands()
    assert world.notification()
    shared = socket.socket(fileno=os.dup(world.network))
    shared.setblocking(True)
    for number in range(3):
        client.write(b"request %d" % number)
        assert app.read() == b"request %d" % number
        app.write(b"answer %d" % number)
        assert client.tls.recv(100) == b"answer %d" % number
    shared.close()
    app.exit()
    client.close()
    assert world.failure() is None


def test_the_two_ways_of_the_network_may_be_pipes(world: World) -> None:
    to_server, from_client = os.pipe()
    from_server, to_client = os.pipe()
    app_in, to_app = os.pipe()
    from_app, app_out = os.pipe()
    for fd in (to_server, to_client, to_app, from_app):
        os.set_blocking(fd, False)
    reactor = Reactor()
    failures: list[TLSFailure] = []

    def talk() -> bytes:
        tls = SSL.Connection(client_context(), None)
        tls.set_connect_state()
        received = b""

        def exchange() -> None:
            with contextlib.suppress(SSL.WantReadError):
                os.write(from_client, tls.bio_read(65536))

        def wait(what: Callable[[], bytes | None]) -> bytes | None:
            while True:
                try:
                    return what()
                except SSL.WantReadError:
                    exchange()
                    data = os.read(from_server, 65536)
                    if not data:
                        return b""
                    tls.bio_write(data)

        wait(lambda: tls.do_handshake())
        tls.sendall(b"request")
        exchange()
        os.close(from_client)
        while data := wait(lambda: tls.recv(65536)):
            received += data
        os.close(from_server)
        return received

    with os.fdopen(app_in, "rb") as stdin, os.fdopen(app_out, "wb") as stdout:

        def answer() -> None:
            stdout.write(stdin.read() + b" answered")
            stdout.close()
            stdin.close()

        talking = world.also(talk)
        answering = world.also(answer)
        Session(
            reactor,
            Pump(server_context()),
            Ends(Descriptors(to_server, to_client, from_app, to_app)),
            Owner(lambda pump: b"", failures.append, reactor.stop),
        )
        reactor.run()
        reactor.close()
        answering.result(PATIENCE)
    assert talking.result(PATIENCE) == b"request answered"
    assert failures == []
