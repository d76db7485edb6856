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
from collections.abc import Callable
from typing import TYPE_CHECKING

from s6tls.posix.descriptors import raise_soft_limit
from s6tls.posix.fdpass import DescriptorSender, control_pair
from s6tls.posix.jail import Jail, Role
from s6tls.posix.process import close_all_but, fork, redirect_to_null
from s6tls.posix.reactor import READABLE, Reactor, Timer
from s6tls.tls.credentials import PROGRAM, Credentials, SessionOptions, TlsParameters
from s6tls.tls.ends import Descriptors
from s6tls.ucspi.hearsay import Hearsay
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
        return back + [Descriptors(*numbers) for _, numbers in self.take_queue()]

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
    from s6tls.tls import engine
    from s6tls.tls.warmup import warm_up

    context = engine.confine_and_load(parameters, credentials)
    warm_up(context, parameters.options)
    options = parameters.options
    if isolation is Isolation.CONNECTION:
        roles, wanted, serve = (Role.POOL, Role.ENGINE), _WAITING_ENGINES, _serve_one
    else:
        roles, wanted, serve = (Role.POOL_OF_WORKERS, Role.WORKER), _WORKERS, _serve_many
        control.setblocking(False)
        raise_soft_limit()
    with engine.jailing():
        own = Jail(roles[0], options.jail, PROGRAM, options.engine_uids)
        inner = Jail(roles[1], options.jail, PROGRAM, options.engine_uids, outer=roles[0])
        own.enter()
    gc.collect()
    gc.freeze()
    _Keeper(control, wanted, inner, functools.partial(serve, context, options)).run()


class _Keeper:
    """Has `wanted` children wait on the control socket; each enters `jail`, then runs `serve(control, taken)`.

    A child that has taken a connection and waits no more writes its process id to `taken`.
    """

    def __init__(
        self, control: socket.socket, wanted: int, jail: Jail, serve: Callable[[socket.socket, int], None]
    ) -> None:
        self._control, self._wanted, self._jail, self._serve = control, wanted, jail, serve
        self._taken_out, self._taken_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._reactor = Reactor()
        self._stderr = Hearsay(self._reactor, PROGRAM, "a TLS engine")
        self._waiting: set[int] = set()
        self._retry: Timer | None = None
        self._pause_s = _RETRY_S
        self._calm_from = 0.0
        self._unable = Seldom(PROGRAM)

    def run(self) -> None:
        """Go on until the server closes the control socket, and every connection has been taken from it."""
        self._reactor.watch_signals({signal.SIGCHLD: self._children_ended})
        self._reactor.watch(self._taken_out, READABLE, self._connections_taken)
        self._reactor.watch(self._control.fileno(), 0, lambda _: self._refill())
        self._refill()
        self._reactor.run()

    def _connections_taken(self, _: int) -> None:
        self._strike_out_who_has_one()
        self._refill()

    def _strike_out_who_has_one(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                taken = os.read(self._taken_out, 64 * _PID.size)
                self._waiting.difference_update(pid for (pid,) in _PID.iter_unpack(taken))

    def _children_ended(self) -> None:
        self._strike_out_who_has_one()
        fell_while_waiting = False
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                log_death(PROGRAM, f"TLS engine {pid}", status)
                fell_while_waiting |= pid in self._waiting and status != 0
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
                os.dup2(self._stderr.writing, 2)
                close_all_but({0, 1, 2, self._control.fileno(), self._taken_in, *self._jail.descriptors})
                self._jail.enter()
                self._serve(self._control, self._taken_in)
        return pid


def _is_drained(control: socket.socket) -> bool:
    """Tell whether the server has closed the control socket, and every connection has been taken from it."""
    try:
        return not control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _serve_one(context: SSL.Context, options: SessionOptions, control: socket.socket, taken: int) -> None:
    """Take one connection, and let go of everything else before its first byte is read."""
    from s6tls.tls import engine

    gc.disable()
    message, numbers, _, _ = socket.recv_fds(control, len(_MESSAGE), _DESCRIPTORS)
    if not message:
        return
    with contextlib.suppress(BrokenPipeError):  # a keeper that was killed needs no other child
        os.write(taken, _PID.pack(os.getpid()))
    os.close(taken)
    control.close()
    fds = _descriptors(numbers)
    if fds is not None:
        raise SystemExit(engine.run(context, options, fds))


def _serve_many(context: SSL.Context, options: SessionOptions, control: socket.socket, taken: int) -> None:
    """Take connections until the server closes the control socket, and hold all their sessions to their end."""
    os.close(taken)
    _Worker(context, options, control).run()


class _Worker:
    """Many sessions in one event loop."""

    def __init__(self, context: SSL.Context, options: SessionOptions, control: socket.socket) -> None:
        from s6tls.tls.engine import Engine

        self._control = control
        self._reactor = Reactor()
        self._engine = Engine(self._reactor, context, options)
        self._sessions = 0
        self._closed = False

    def run(self) -> None:
        """Go on until the server closes the control socket and the last session has ended."""
        self._reactor.watch(self._control.fileno(), READABLE | select.EPOLLEXCLUSIVE, self._take_one)
        self._reactor.run()

    def _take_one(self, _: int = 0) -> None:
        if self._closed:
            return
        try:
            message, numbers, _, _ = socket.recv_fds(self._control, len(_MESSAGE), _DESCRIPTORS)
        except BlockingIOError:
            return
        except MemoryError:
            self._reactor.after(_RETRY_S, self._take_one)
            return
        except OSError:
            message = b""
        if not message:
            self._close()
            return
        self._reactor.soon(self._take_one)
        fds = _descriptors(numbers)
        if fds is not None:
            self._sessions += 1
            self._engine.start_session(fds, "", self._session_ended)

    def _close(self) -> None:
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
