"""A pool: the processes that hold the sessions of one set of TLS parameters.

The server never speaks TLS.  It sends each accepted connection, as descriptors in
one message, to the pool of the parameters that the client's rule asks for::

    server ── control socket ──> keeper ── forks ──> engine, engine, …

The keeper takes the ids of the TLS engine and loads key and certificates; its children
inherit the context, so all of them know the same ticket keys.  The keeper itself reads
nothing: it only keeps as many children waiting on the control socket as it should.

- With `Isolation.CONNECTION` a child takes one message, tells the keeper so, closes
  the control socket, and only then reads its first byte from the network.  It serves that
  connection and dies.  The keeper has a few children waiting, so that a client need not
  wait for a fork.
- With `Isolation.WORKER` each child takes messages for ever and holds all its
  sessions in one event loop.

The ticket key is renewed by replacing the children: the keeper makes the next context, which also takes tickets of the
key before, and forks others.  Those who waited leave; those who hold sessions hold them to their end.

An engine reports only on the pipe that came with its connection (`s6tls.tls.account`).  So even an
engine that an attacker controls cannot speak for another connection.  When the
server closes the control socket (new parameters, or the server's end) the waiting
children and the keeper go away, once every connection that was sent has been
taken; sessions are held to their end.
"""

from __future__ import annotations

import array
import contextlib
import enum
import functools
import gc
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from math import inf
from typing import TYPE_CHECKING

from s6tls.posix.descriptors import raise_soft_limit
from s6tls.posix.fdpass import DescriptorSender, control_pair
from s6tls.posix.process import close_all_but, fork, redirect_to_null
from s6tls.posix.reactor import READABLE, Reactor, Timer
from s6tls.tls.credentials import PROGRAM, Credentials, SessionOptions, TlsParameters
from s6tls.tls.ends import Descriptors
from s6tls.ucspi.log import Seldom, log, log_death
from s6tls.ucspi.spawn import exits

if TYPE_CHECKING:
    from OpenSSL import SSL

_WAITING_ENGINES = 2
_WORKERS = max(2, os.cpu_count() or 1)
_MESSAGE = b"connection"
_DESCRIPTORS = 6
_ROOM = socket.CMSG_LEN(_DESCRIPTORS * array.array("i").itemsize)
_AT_ONCE = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_PID = struct.Struct("=I")
_RETRY_S = 0.2
"""Seconds after which what the system refused, a fork or memory, is asked for again: a fork twice as late each time."""
_LATEST_RETRY_S = 4.0
_CALM_S = 60.0
"""Seconds after which a failure to have children waiting is forgotten."""


class Isolation(enum.Enum):
    """What shares a process: nothing, or many sessions of the same parameters."""

    CONNECTION = "connection"
    WORKER = "worker"


class EnginePool(DescriptorSender):
    """The server's end of a pool, and a copy of the other end, to take back what nobody takes."""

    def __init__(self, pid: int, control: socket.socket, far: socket.socket) -> None:
        super().__init__(control)
        self.pid, self._far = pid, far

    def send_connection(self, fds: Descriptors) -> None:
        """Send a connection to the pool; the descriptors are closed here once they are on their way.

        Raises OSError when the pool is gone; they are then still the caller's.
        """
        self.send(_MESSAGE, fds.numbers)

    def is_ready(self) -> bool:
        """Tell whether the pool has been able to use its credentials."""
        try:
            return not self.control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False

    def take_back(self) -> list[Descriptors]:
        """Return the connections that no engine has taken; they are the caller's again."""
        back = []
        with contextlib.suppress(OSError):
            while True:
                message, ancillary, _, _ = self._far.recvmsg(len(_MESSAGE), _ROOM, _AT_ONCE)
                numbers = array.array("i", b"".join(data for _, _, data in ancillary))
                fds = _descriptors(list(numbers)) if message else None
                if fds is None:
                    break
                back.append(fds)
        return back + [Descriptors(*numbers) for numbers in self.take_queue()]

    def close(self) -> None:
        """See `DescriptorSender`."""
        super().close()
        self._far.close()


def start(parameters: TlsParameters, credentials: Credentials, isolation: Isolation) -> EnginePool:
    """Fork a pool's keeper and return the server's end of it.

    The keeper says on stderr what is wrong with the parameters, and ends.
    """
    ours, theirs = control_pair()
    pid = fork()
    if pid == 0:
        with exits():
            close_all_but({0, 1, 2, theirs.fileno()})
            redirect_to_null(0, 1)  # a listening socket, and where somebody may await that we are ready
            _keep(theirs, parameters, credentials, isolation)
    ours.setblocking(False)
    return EnginePool(pid, ours, theirs)


def _keep(control: socket.socket, parameters: TlsParameters, credentials: Credentials, isolation: Isolation) -> None:
    """Be the keeper: load the credentials, then have children wait on `control` until the server closes it."""
    from s6tls.tls import engine, policy
    from s6tls.tls.context import renew
    from s6tls.tls.warmup import warm_up

    options = parameters.options
    context = engine.confine_and_load(parameters, credentials)
    control.shutdown(socket.SHUT_WR)  # so the server knows that all is well; and nobody here has more to say to it
    warm_up(context, options)
    gc.collect()
    gc.freeze()
    wanted, serve = (_WAITING_ENGINES, _serve_one) if isolation is Isolation.CONNECTION else (_WORKERS, _serve_many)
    control.setblocking(False)

    def generations() -> Iterator[_Serve]:
        nonlocal context
        while True:
            yield functools.partial(serve, context, options)
            context = renew(context)

    keeper = _Keeper(control, wanted, generations(), options.ticket_lifetime_s)
    for file, ends in policy.of(context).stapled.items():
        keeper.warn_at(ends, f"OCSP response {file} has expired: it is left out")
    keeper.run()


_Serve = Callable[[socket.socket, int, int], None]


class _Keeper:
    """Has `wanted` children wait on the control socket; each is a fork that runs `serve(control, taken, leave)`.

    A child that has taken a connection and waits no more writes its process id to `taken`.  After `lifetime_s`, those
    of the next generation wait instead: it is `leave` that ends, and no child of the one before takes anything more.
    """

    def __init__(self, control: socket.socket, wanted: int, generations: Iterator[_Serve], lifetime_s: float) -> None:
        self._control, self._wanted, self._generations, self._lifetime_s = control, wanted, generations, lifetime_s
        self._serve = next(generations)
        self._leave, self._stay = os.pipe2(os.O_CLOEXEC)
        self._taken_out, self._taken_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._reactor = Reactor()
        self._waiting: set[int] = set()
        self._retry: Timer | None = None
        self._pause_s = _RETRY_S
        self._calm_from = 0.0
        self._unable = Seldom(PROGRAM)

    def warn_at(self, moment: float, message: str) -> None:
        """Log a warning when this moment comes, in seconds since 1970; never, if it is infinite."""
        if moment < inf:
            self._reactor.after(moment - time.time(), lambda: log(PROGRAM, "warning", message))

    def run(self) -> None:
        """Go on until the server closes the control socket, and every connection has been taken from it."""
        self._reactor.watch_signals({signal.SIGCHLD: self._children_ended})
        self._reactor.watch(self._taken_out, READABLE, self._connections_taken)
        self._reactor.watch(self._control.fileno(), 0, lambda _: self._refill())
        self._reactor.after(self._lifetime_s, self._begin_generation)
        self._refill()
        self._reactor.run()

    def _begin_generation(self) -> None:
        self._serve = next(self._generations)
        for end in (self._leave, self._stay):
            os.close(end)
        self._leave, self._stay = os.pipe2(os.O_CLOEXEC)
        self._waiting.clear()
        self._reactor.after(self._lifetime_s, self._begin_generation)
        self._refill()

    def _connections_taken(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                taken = os.read(self._taken_out, 64 * _PID.size)
                self._waiting.difference_update(pid for (pid,) in _PID.iter_unpack(taken))
        self._refill()

    def _children_ended(self) -> None:
        fell_while_waiting = False
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                log_death(PROGRAM, f"TLS engine {pid}", status)
                fell_while_waiting |= pid in self._waiting and os.WIFSIGNALED(status)
                self._waiting.discard(pid)
        if fell_while_waiting:
            self._refill_later()
        else:
            self._refill()

    def _refill(self) -> None:
        if _is_drained(self._control):
            self._reactor.stop()
            return
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        while len(self._waiting) < self._wanted:
            try:
                self._waiting.add(self._fork())
            except OSError as error:
                self._unable.warning(f"unable to fork: {error.strerror}")
                self._refill_later()
                return

    def _refill_later(self) -> None:
        """Have the children that are missing after a while: a longer one each time, until all has been well again."""
        if self._retry is not None:
            return
        now = time.monotonic()
        self._pause_s = _RETRY_S if now >= self._calm_from else min(2 * self._pause_s, _LATEST_RETRY_S)
        self._calm_from = now + _CALM_S
        self._retry = self._reactor.after(self._pause_s, self._refill)

    def _fork(self) -> int:
        pid = fork()
        if pid == 0:
            with exits():
                close_all_but({0, 1, 2, self._control.fileno(), self._taken_in, self._leave})
                self._serve(self._control, self._taken_in, self._leave)
        return pid


def _is_drained(control: socket.socket) -> bool:
    """Tell whether the server has closed the control socket, and every connection has been taken from it."""
    try:
        return not control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _serve_one(context: SSL.Context, options: SessionOptions, control: socket.socket, taken: int, leave: int) -> None:
    """Take one connection, and let go of everything else before its first byte is read."""
    from s6tls.tls import engine

    gc.disable()
    message, numbers = _await_message(control, leave)
    if not message:
        return
    with contextlib.suppress(BrokenPipeError):  # a keeper that was killed needs no other child
        os.write(taken, _PID.pack(os.getpid()))
    for fd in (taken, leave):
        os.close(fd)
    control.close()
    fds = _descriptors(numbers)
    if fds is not None:
        raise SystemExit(engine.run(context, options, fds))


def _await_message(control: socket.socket, leave: int) -> tuple[bytes, list[int]]:
    """Return a message and its descriptors, or b"" when the server has closed the socket, or `leave` has ended.

    The kernel wakes one process for a message.  So whoever leaves looks once more when it can be woken no more.
    """
    with select.epoll() as either:
        either.register(control, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        either.register(leave, select.EPOLLIN)
        while leave not in dict(either.poll()):
            with contextlib.suppress(BlockingIOError):
                return _message(control)
    with contextlib.suppress(BlockingIOError):
        return _message(control)
    return b"", []


def _message(control: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next message and its descriptors.  Raises BlockingIOError when there is none, and other OSErrors."""
    message, numbers, _, _ = socket.recv_fds(control, len(_MESSAGE), _DESCRIPTORS)
    return message, numbers


def _serve_many(context: SSL.Context, options: SessionOptions, control: socket.socket, taken: int, leave: int) -> None:
    """Take connections until the server closes the control socket, and hold all their sessions to their end."""
    os.close(taken)
    raise_soft_limit()
    _Worker(context, options, control, leave).run()


class _Worker:
    """Many sessions in one event loop."""

    def __init__(self, context: SSL.Context, options: SessionOptions, control: socket.socket, leave: int) -> None:
        from s6tls.tls.engine import Engine

        self._control, self._leave = control, leave
        self._reactor = Reactor()
        self._engine = Engine(self._reactor, context, options)
        self._sessions = 0
        self._closed = False

    def run(self) -> None:
        """Go on until the server closes the control socket, or `leave` ends, and the last session has ended."""
        self._reactor.watch(self._control.fileno(), READABLE | select.EPOLLEXCLUSIVE, self._take_one)
        self._reactor.watch(self._leave, READABLE, self._leave_the_rest)
        self._reactor.run()

    def _take_one(self, _: int = 0) -> None:
        if not self._closed and self._took_one():
            self._reactor.soon(self._take_one)

    def _took_one(self) -> bool:
        try:
            message, numbers = _message(self._control)
        except BlockingIOError:
            return False
        except MemoryError:
            self._reactor.after(_RETRY_S, self._take_one)
            return False
        except OSError:
            message = b""
        if not message:
            self._close()
            return False
        fds = _descriptors(numbers)
        if fds is not None:
            self._sessions += 1
            self._engine.start_session(fds, "", self._session_ended)
        return True

    def _leave_the_rest(self, _: int) -> None:
        """Take what the kernel may have told only this worker of, as `_await_message` does, and nothing after it."""
        self._reactor.forget(self._leave)
        if not self._closed:
            self._reactor.forget(self._control.fileno())
            while self._took_one():
                pass
            self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._reactor.forget(self._control.fileno())
            self._control.close()
            self._stop_if_done()

    def _session_ended(self, _code: int) -> None:
        self._sessions -= 1
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if self._closed and not self._sessions:
            self._reactor.stop()


def _descriptors(numbers: list[int]) -> Descriptors | None:
    """Return the descriptors of a connection; close them when some have not arrived."""
    if len(numbers) == _DESCRIPTORS:
        return Descriptors(*numbers)
    for fd in numbers:
        os.close(fd)
    log(PROGRAM, "fatal", "unable to take a connection: too many open files")
    return None
