"""The rim over real sockets and pipes: what happens to the bytes when peers are slow, hasty, rude or gone."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

import pytest
from OpenSSL import SSL

from s6tls.tls import context, session
from s6tls.tls.descriptors import Descriptors
from s6tls.tls.ends import Ends
from s6tls.tls.material import Options
from s6tls.tls.pump import Pump, TLSFailure
from s6tls.tls.session import Session
from s6tls.ucspi.reactor import READABLE, Reactor
from tests.tls import memory, pki, sealing
from tests.tls.memory import NAMES, VERSIONS, client_context

T = TypeVar("T")
MB = 1_000_000
PATIENCE = 5.0
TCP_ESTABLISHED = 1
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS, ids=NAMES.get)


@functools.cache
def server_context() -> SSL.Context:
    return context.build(pki.material(default=pki.pair()), Options())


def data_of(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


class Application:
    """The other ends of a session's pipes."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self._stdin, self._stdout = io.FileIO(stdin, "rb"), io.FileIO(stdout, "wb")

    def read(self, size: int = 65536) -> bytes:
        return self._stdin.read(size) or b""

    def read_all(self) -> bytes:
        return b"".join(iter(self.read, b""))

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._stdout.write(view) :]

    def end_writing(self) -> None:
        self._stdout.close()

    def end_reading(self) -> None:
        self._stdin.close()

    def answer(self, data: bytes) -> None:
        """Write everything and exit."""
        self.write(data)
        self.exit()

    def exit(self) -> None:
        """End as the kernel ends a program: 0 is closed before 1."""
        self.end_reading()
        self.end_writing()


class Client:
    """A client on a blocking socket.

    As OpenSSL has it, an end of file without close_notify is an error, which is told to the server;
    `lenient` changes that.
    """

    def __init__(self, connection: socket.socket, context: SSL.Context) -> None:
        self.socket = connection
        self.tls = SSL.Connection(context, connection)
        self.tls.set_connect_state()
        self.closed_by_notify = False

    def shake_hands(self) -> None:
        self.tls.do_handshake()

    def write(self, data: bytes) -> None:
        self.tls.sendall(data)

    def read_all(self) -> bytes:
        """Read to the end of file, with close_notify or without.  Raises SSL.SysCallError for a reset."""
        data = b""
        try:
            while True:
                data += self.tls.recv(65536)
        except SSL.ZeroReturnError:
            self.closed_by_notify = True
        except SSL.SysCallError as error:
            if error.args != (-1, "Unexpected EOF"):
                raise
        return data

    def end_writing(self) -> None:
        self.tls.shutdown()
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.socket.close()


class World:
    """One session carried by a reactor in a thread, and everybody around it."""

    def __init__(self) -> None:
        self._cleanup = contextlib.ExitStack()
        self.ended: Future[TLSFailure | None] = Future()
        self.established = threading.Event()

    def start(
        self,
        version: int = SSL.TLS1_3_VERSION,
        *,
        close_notify: bool = False,
        demand_close_notify: bool = False,
        handshake_timeout: float = 0,
        buffers: int = 0,
        lenient: bool = False,
        context: SSL.Context | None = None,
    ) -> tuple[Client, Application]:
        """Begin a session; `buffers` makes the kernel's for the network small."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            if buffers:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            connection = socket.socket()
            if buffers:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            connection.connect(listener.getsockname())
            ours = listener.accept()[0]
        connection.settimeout(None)
        app_in, to_app = os.pipe()
        from_app, app_out = os.pipe()
        self.notified, notify = os.pipe()
        self._cleanup.callback(os.close, self.notified)
        for fd in (to_app, from_app):
            os.set_blocking(fd, False)
        self.network = net = ours.detach()
        fds = Descriptors(net, net, from_app, to_app, notify)
        reactor = Reactor()
        stopped, stop = os.pipe()
        reactor.watch(stopped, READABLE, lambda _: reactor.stop())

        failures: list[TLSFailure | None] = [None]

        def over() -> None:
            self.ended.set_result(failures[-1])
            reactor.stop()

        def carry() -> None:
            try:
                Session(
                    reactor,
                    Pump(server_context(), close_notify, demand_close_notify),
                    Ends(fds),
                    lambda pump: b"established",
                    failures.append,
                    over,
                    handshake_timeout,
                    close_notify,
                )
                if not self.ended.done():
                    reactor.run()
            except BaseException as error:
                self.ended.set_exception(error)
            finally:
                reactor.close()
                os.close(stopped)

        talking = context or client_context(version)
        if lenient:
            talking.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF)
        client, application = Client(connection, talking), Application(app_in, app_out)
        self._cleanup.callback(os.close, stop)
        self._cleanup.callback(application.exit)
        self._cleanup.callback(client.close)
        self.also(carry)
        return client, application

    def also(self, what: Callable[[], T]) -> Future[T]:
        """Do something at the same time."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(what())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def failure(self) -> TLSFailure | None:
        """Await the session's end; return what broke it."""
        return self.ended.result(PATIENCE)

    def notification(self) -> bytes:
        return os.read(self.notified, 100)

    def sent_end(self) -> bool:
        """Tell whether our end of file has been handed to the kernel."""
        with socket.socket(fileno=os.dup(self.network)) as network:
            return network.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED

    def close(self) -> None:
        self._cleanup.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


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
    os.set_blocking(app._stdout.fileno(), False)
    client.write(b"go")
    assert app.read() == b"go"
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
    client, app = world.start()
    client.shake_hands()
    assert world.notification()
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


# Ends


def test_with_half_closing_the_client_may_go_on_after_the_application_s_end(world: World) -> None:
    client, app = world.start(lenient=True)
    client.shake_hands()
    app.write(b"bye")
    app.end_writing()
    assert client.read_all() == b"bye"
    client.write(data_of(60000))
    client.end_writing()
    assert app.read_all() == data_of(60000)
    assert world.failure() is None


def test_with_close_notify_both_directions_end_with_the_application_s(world: World) -> None:
    client, app = world.start(close_notify=True)
    client.shake_hands()
    app.write(b"bye")
    app.end_writing()
    assert client.read_all() == b"bye" and client.closed_by_notify
    assert app.read_all() == b""
    client.write(b"too late")
    client.close()
    assert world.failure() is None


def test_a_client_that_complains_about_the_half_close_has_still_had_everything(world: World) -> None:
    client, app = world.start()
    client.shake_hands()
    app.answer(b"bye")
    assert client.read_all() == b"bye"  # and here OpenSSL sends its alert
    client.close()
    assert world.failure() is None


def test_a_client_that_complains_while_the_application_still_reads_has_ended_its_direction(world: World) -> None:
    """So do programs look that close their output some time before they exit."""
    client, app = world.start()
    client.shake_hands()
    app.write(b"bye")
    app.end_writing()
    assert client.read_all() == b"bye"  # and here OpenSSL sends its alert
    assert app.read_all() == b""
    client.close()
    assert world.failure() is None


@pytest.mark.parametrize("close_notify", [False, True])
def test_the_client_s_end_ends_what_the_application_reads_and_no_more(world: World, close_notify: bool) -> None:
    client, app = world.start(close_notify=close_notify)
    client.shake_hands()
    client.write(b"request")
    client.end_writing()
    assert app.read_all() == b"request"
    app.write(data_of(50_000))
    app.exit()
    assert client.read_all() == data_of(50_000)
    assert world.failure() is None


@EACH_VERSION
@pytest.mark.parametrize("demand", [False, True])
def test_an_end_of_file_without_close_notify_is_an_error_only_if_it_must_not_be(
    world: World, version: int, demand: bool
) -> None:
    client, app = world.start(version, demand_close_notify=demand)
    client.shake_hands()
    client.write(b"request")
    client.socket.shutdown(socket.SHUT_WR)
    assert app.read_all() == b"request"
    app.exit()
    failure = world.failure()
    if demand:
        assert failure is not None and not failure.during_handshake
    else:
        assert failure is None and client.read_all() == b""


def test_an_application_that_does_not_read_may_still_answer(world: World) -> None:
    client, app = world.start(buffers=4096)
    client.shake_hands()
    app.end_reading()
    app.write(data_of(10_000))
    app.end_writing()
    for _ in range(20):
        client.write(data_of(10_000))
    assert client.read_all() == data_of(10_000)
    client.close()
    world.failure()


def test_unread_bytes_of_the_client_do_not_cost_it_the_answer(world: World) -> None:
    # Closing a socket that has unread bytes resets the connection: the engine must read them first.
    client, app = world.start()
    client.shake_hands()
    app.write(b"no, thank you")
    app.exit()
    for _ in range(30):
        client.write(data_of(10_000))
    assert client.read_all() == b"no, thank you"
    client.close()
    world.failure()


@pytest.mark.parametrize("close_notify", [False, True])
def test_a_client_that_has_everything_and_never_closes_is_left_in_the_end(
    world: World, close_notify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LINGER", 0.05)
    client, app = world.start(close_notify=close_notify)
    client.shake_hands()
    app.write(b"bye")
    app.exit()
    assert world.failure() is None
    assert client.read_all() == b"bye"


def test_a_client_that_has_not_read_everything_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LINGER", 0.02)
    client, app = world.start(buffers=4096)
    client.shake_hands()
    writing = world.also(lambda: app.answer(data_of(300_000)))
    with pytest.raises(TimeoutError):
        world.ended.result(0.5)
    assert client.read_all() == data_of(300_000)
    writing.result(PATIENCE)
    assert world.failure() is None


def answer_into_the_kernel(world: World) -> Client:
    """Have all of an answer wait in our kernel for a client that has ended its direction, and reads little."""
    client, app = world.start(buffers=4096)
    client.shake_hands()
    with socket.socket(fileno=os.dup(world.network)) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    client.end_writing()
    assert app.read_all() == b""
    app.answer(data_of(100_000))
    with pytest.raises(TimeoutError):
        world.ended.result(0.3)
    return client


def test_a_client_that_has_ended_is_waited_for_until_its_kernel_has_the_answer(world: World) -> None:
    client = answer_into_the_kernel(world)
    assert client.read_all() == data_of(100_000)
    assert world.failure() is None


def test_a_client_that_has_ended_and_resets_the_connection_has_lost_the_answer(world: World) -> None:
    answer_into_the_kernel(world).reset()
    assert world.failure() is not None


def test_a_program_that_leaves_more_than_a_client_ever_takes_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LINGER", 0.3)
    client, app = world.start(buffers=4096)
    client.shake_hands()
    os.set_blocking(app._stdout.fileno(), False)
    poll = select.poll()
    poll.register(app._stdout, select.POLLOUT)
    while poll.poll(300):
        app._stdout.write(data_of(65536))
    app.exit()
    assert world.failure() is not None


def test_a_client_that_wants_new_keys_after_the_half_close_is_no_failure(world: World) -> None:
    told, records = sealing.context(SSL.TLS1_3_VERSION)
    client, app = world.start(context=told, lenient=True)
    client.shake_hands()
    app.end_writing()
    assert client.read_all() == b""
    client.socket.sendall(records(client.tls).request_keys())
    client.socket.shutdown(socket.SHUT_WR)
    assert app.read_all() == b""
    assert world.failure() is None


BAD_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)


@EACH_VERSION
def test_what_came_in_the_same_read_as_a_broken_record_arrives(world: World, version: int) -> None:
    client, app = world.start(version)
    talking = memory.Client(client_context(version))
    shake_hands(talking, client.socket)
    assert world.notification()
    talking.connection.send(b"hello")
    client.socket.sendall(talking.said() + BAD_RECORD)
    assert app.read_all() == b"hello"
    app.exit()
    client.close()
    failure = world.failure()
    assert failure is not None and not failure.during_handshake


@EACH_VERSION
def test_a_record_that_breaks_in_the_same_read_as_the_handshake_ends_breaks_an_established_session(
    world: World, version: int
) -> None:
    client, app = world.start(version)
    talking = memory.Client(client_context(version))
    talking.hear()
    with contextlib.suppress(SSL.Error):  # in TLS 1.2 the alert comes with the server's Finished
        while said := talking.said():
            last = b"\x14\x03\x03\x00\x01\x01" in said  # change_cipher_spec comes with the client's Finished
            client.socket.sendall(said + BAD_RECORD * last)
            if not talking.established:
                talking.hear(client.socket.recv(65536))
    assert world.notification() == b"established"
    assert app.read_all() == b""
    app.exit()
    client.close()
    failure = world.failure()
    assert failure is not None and not failure.during_handshake


def shake_hands(talking: memory.Client, connection: socket.socket) -> None:
    """Have a client in memory shake hands over a socket."""
    talking.hear()
    while data := talking.said():
        connection.sendall(data)
        if not talking.established:
            talking.hear(connection.recv(65536))


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
            lambda pump: b"",
            failures.append,
            reactor.stop,
        )
        reactor.run()
        reactor.close()
        answering.result(PATIENCE)
    assert talking.result(PATIENCE) == b"request answered"
    assert failures == []
