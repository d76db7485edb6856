"""A few sessions of a pool with itself, before it forks: what is done once here is not done by every engine.

The first session in a process is expensive.  The TLS library looks its algorithms up, the interpreter
adapts the bytecode that it runs and fills its caches; all of it writes to memory that an engine
shares with its parent, so each engine would copy those pages and do that work for
the one session of its life.  The client is made here; nothing comes from the network.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
from dataclasses import replace

from OpenSSL import SSL

from s6tls.posix.fdpass import control_pair
from s6tls.posix.reactor import READABLE, Reactor
from s6tls.tls.credentials import SessionOptions
from s6tls.tls.ends import Descriptors
from s6tls.tls.engines import taking
from s6tls.tls.engines.engine import Engine

_TIMES = 12
"""The interpreter adapts a function when it runs for the eighth time (3.11)."""

_TIMEOUT_S = 2.0
_WORD = b"hello"


def warm_up(context: SSL.Context, options: SessionOptions) -> None:
    """Hold sessions in this process.  One that fails has been of use, too."""
    newest, older = SSL.Context(SSL.TLS_CLIENT_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
    older.set_max_proto_version(SSL.TLS1_2_VERSION)
    at_once = replace(options, delayed=False)
    for number in range(_TIMES):
        with contextlib.suppress(OSError, SSL.Error):
            _hold_session(context, at_once, older if number % 4 == 3 else newest)


def _hold_session(context: SSL.Context, options: SessionOptions, client_context: SSL.Context) -> None:
    with contextlib.ExitStack() as cleanup:
        reactor = Reactor()
        cleanup.callback(reactor.close)
        near, far = (cleanup.enter_context(end) for end in socket.socketpair())
        (_, to_program), (from_program, answer), (_, notify), (_, account) = (_pipe(cleanup) for _ in range(4))
        client = _Client(client_context, reactor, near, answer)
        reactor.soon(client.go_on)
        reactor.after(_TIMEOUT_S, client.leave)
        reactor.after(2 * _TIMEOUT_S, reactor.stop)
        fds = _sent(far, from_program, to_program, notify, account)
        codes: list[int] = []

        def ended(code: int) -> None:
            codes.append(code)
            reactor.stop()

        Engine(reactor, context, options).start_session(fds, "", ended)
        if not codes:
            reactor.run()


def _pipe(cleanup: contextlib.ExitStack) -> tuple[io.FileIO, io.FileIO]:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    return cleanup.enter_context(io.FileIO(reading, "r")), cleanup.enter_context(io.FileIO(writing, "w"))


def _sent(network: socket.socket, *others: io.FileIO) -> Descriptors:
    """Send the ends of a session over a control socket, and close them; return those that arrive.  Raises OSError."""
    with contextlib.ExitStack() as cleanup:
        sending, receiving = map(cleanup.enter_context, control_pair())
        leave, _ = _pipe(cleanup)
        sent = Descriptors(network.fileno(), network.fileno(), *(end.fileno() for end in others))
        message, numbers = sent.packed()
        socket.send_fds(sending, [message], numbers)
        network.close()
        for end in others:
            end.close()
        message, arrived = taking.await_connection(receiving, leave.fileno()) or (message, [])
    fds = Descriptors.unpacked(message, arrived)
    if fds is None:
        for fd in arrived:
            os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return fds


class _Client:
    """A client that says a word and ends its direction, and the program that answers with a word and ends."""

    def __init__(self, context: SSL.Context, reactor: Reactor, network: socket.socket, answer: io.FileIO) -> None:
        self._tls = SSL.Connection(context, None)
        self._tls.set_connect_state()
        self._reactor, self._network, self._answer = reactor, network, answer
        network.setblocking(False)
        reactor.watch(network.fileno(), READABLE, self.go_on)

    def go_on(self, _: int = 0) -> None:
        """Do what can be done now."""
        try:
            self._hear()
            has_greeted = self._greet()
            self._say()
            if has_greeted:
                self._reactor.forget(self._network.fileno())
                self._network.shutdown(socket.SHUT_WR)
                self._answer.write(_WORD)
                self._answer.close()
        except (OSError, SSL.Error):
            self.leave()

    def leave(self) -> None:
        """Let the session end."""
        self._reactor.forget(self._network.fileno())
        self._network.close()
        self._answer.close()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := self._network.recv(65536):
                self._tls.bio_write(data)

    def _greet(self) -> bool:
        try:
            self._tls.do_handshake()
            self._tls.send(_WORD)
        except SSL.WantReadError:
            return False
        return True

    def _say(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            while True:
                self._network.send(self._tls.bio_read(65536))
