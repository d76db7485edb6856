"""One session over real sockets and pipes, its client and its application."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from OpenSSL import SSL

from s6tls.posix.reactor import READABLE, Reactor
from s6tls.tls.ends import Descriptors, Ends
from s6tls.tls.owner import Owner, Patience
from s6tls.tls.pump import Pump, TLSFailure
from s6tls.tls.session import Session
from tests.support.servers import PATIENCE
from tests.support.tls.memory import client_context, server_context

T = TypeVar("T")
MB = 1_000_000
TCP_ESTABLISHED = 1


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


class SocketApplication(Application):
    """The other end of a session's socket."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(os.dup(end.fileno()), os.dup(end.fileno()))
        self._end = end

    def end_writing(self) -> None:
        self._end.shutdown(socket.SHUT_WR)

    def end_reading(self) -> None:
        self._end.shutdown(socket.SHUT_RD)

    def exit(self) -> None:
        for one in (self._stdin, self._stdout, self._end):
            one.close()


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
    """One session carried by a reactor in a thread, and everybody around it.

    `sockets` is for a program that has a socket on 0 and 1, not two pipes.
    """

    def __init__(self, sockets: bool = False) -> None:
        self._sockets = sockets
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
        stall_timeout: float = 60,
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
        application, from_app, to_app = self._application()
        self.notified, notify = os.pipe()
        self._cleanup.callback(os.close, self.notified)
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
                pump = Pump(server_context(), close_notify, demand_close_notify)
                owner = Owner(lambda pump: b"established", failures.append, over)
                Session(reactor, pump, Ends(fds), owner, Patience(handshake_timeout, stall_timeout))
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
        client = Client(connection, talking)
        self._cleanup.callback(os.close, stop)
        self._cleanup.callback(application.exit)
        self._cleanup.callback(client.close)
        self.also(carry)
        return client, application

    def _application(self) -> tuple[Application, int, int]:
        """Make a program, and the session's ends of it."""
        if self._sockets:
            theirs, ours = socket.socketpair()
            return SocketApplication(theirs), os.dup(ours.fileno()), ours.detach()
        app_in, to_app = os.pipe()
        from_app, app_out = os.pipe()
        return Application(app_in, app_out), from_app, to_app

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
