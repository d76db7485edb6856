"""A pool's own program: a keeper, which has engines wait for connections, and the engines that it forks.

See `s6tls.tls.engines.pool`, which starts it.  All that an engine needs is imported and done here, once; the keeper's
children find it in memory.  Nothing is imported once the privileges have gone, with the right to read the files.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import pickle
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from math import inf
from typing import TYPE_CHECKING

from s6tls.pki import parsing
from s6tls.posix import layout, stderr
from s6tls.posix.backoff import Backoff
from s6tls.posix.descriptors import most, raise_soft_limit
from s6tls.posix.jail import Jail, Role
from s6tls.posix.process import close_all_but, fork
from s6tls.posix.reactor import READABLE, Reactor, Timer
from s6tls.tls import policy
from s6tls.tls.context import renew
from s6tls.tls.context.oddities import expiries, oddities
from s6tls.tls.credentials import PROGRAM, VALIDITY, Credentials, Isolation, SessionOptions
from s6tls.tls.engines import engine, taking
from s6tls.tls.engines.warmup import warm_up
from s6tls.ucspi.hearsay import Hearsay
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.log import TEXT, Seldom, log, silence_warnings, use
from s6tls.ucspi.minutely import Deaths
from s6tls.ucspi.spawn import exits

if TYPE_CHECKING:
    from OpenSSL import SSL

_WORKERS = max(2, os.cpu_count() or 1)
_WAITING = {Isolation.CONNECTION: (2, 4), Isolation.WORKER: (_WORKERS, _WORKERS)}
"""How few and how many children wait for connections.

A fork costs the keeper copies of all pages to which it writes afterwards.  So it is better to fork several in a row.
"""
_ROLES = {Isolation.CONNECTION: (Role.POOL, Role.ENGINE), Isolation.WORKER: (Role.POOL_OF_WORKERS, Role.WORKER)}
_PID = struct.Struct("=I")
_MOST_DATES = 1000
_RETRY_S = 0.2
"""Seconds after which memory that the system refused is asked for again."""


def main(pickled: bytes, number: int, report: int) -> None:
    """Load the credentials, report their dates, then have children wait on the control socket until it is closed."""
    with exits():
        parameters, credentials, isolation, form, quiet = pickle.loads(pickled)
        use(form)
        silence_warnings(quiet)
        context = engine.confine_and_load(parameters, credentials)
        for odd in oddities(credentials):
            log(PROGRAM, "warning", odd)
        later = list(expiries(credentials))
        control = socket.socket(fileno=number)
        _report(credentials, report)
        control.shutdown(socket.SHUT_WR)  # so the server knows that all is well; and nobody here has more to say to it
        _keep(control, context, parameters.options, isolation, later)


def _keep(
    control: socket.socket,
    context: SSL.Context,
    options: SessionOptions,
    isolation: Isolation,
    later: list[tuple[float, str]],
) -> None:
    _rehearse(context, options, isolation)
    raise_soft_limit()
    jail = _enter_jail(options, isolation)
    gc.collect()
    gc.freeze()
    control.setblocking(False)
    generations = _generations(context, options, isolation)
    keeper = _Keeper(control, _WAITING[isolation], jail, generations, options.ticket_lifetime_s)
    stapled = [(ends, f"{file} has expired: it is left out") for file, ends in policy.of(context).stapled.items()]
    for moment, message in (*stapled, *later):
        keeper.warn_at(moment, message)
    keeper.run()


def _rehearse(context: SSL.Context, options: SessionOptions, isolation: Isolation) -> None:
    """Hold sessions, and have what they use lie on few pages if each is to have a fork."""
    warm_up(context, options)
    if isolation.forks_often:
        layout.fill_gaps()
        layout.join_pages()


def _enter_jail(options: SessionOptions, isolation: Isolation) -> Jail:
    """Confine this process to what a keeper does; return the jail of its children.  Raises StageExit (111)."""
    own, inner = _ROLES[isolation]
    with engine.jailing():
        jail = Jail(inner, options.jail, PROGRAM, options.engine_uids, outer=own)
        Jail(own, options.jail, PROGRAM, options.engine_uids).enter()
    return jail


def _report(credentials: Credentials, report: int) -> None:
    """Tell the server, which parses no certificates, from when to when each is valid, as far as there is room."""
    pairs = [pair for pair in credentials.keypairs if not pair.stands_alone][:_MOST_DATES]
    chains = (parsing.chain(pair.chain.data, pair.chain.name) for pair in pairs)
    with contextlib.suppress(OSError, ValueError):
        ends = [(found[0].not_valid_before_utc, found[0].not_valid_after_utc) for found in chains]
        os.write(report, b"".join(VALIDITY.pack(int(a.timestamp()), int(b.timestamp())) for a, b in ends))
    os.close(report)


_Serve = Callable[[socket.socket, int, int], None]


def _generations(context: SSL.Context, options: SessionOptions, isolation: Isolation) -> Iterator[_Serve]:
    """Yield what children do: each time with another ticket key, and the one before."""
    serve = _serve_one if isolation.forks_often else _serve_many
    while True:
        yield functools.partial(serve, context, options)
        context = renew(context)


class _Keeper:
    """Has children wait on the control socket; each is a fork that enters `jail`, then serves as its generation does.

    When fewer than the first number in `waiting` wait, there will be as many as the second one says.
    A child that has taken a connection and waits no more writes its process id to `taken`.  After `lifetime_s`, those
    of the next generation wait instead: it is `leave` that ends, and no child of the one before takes anything more.
    """

    def __init__(
        self,
        control: socket.socket,
        waiting: tuple[int, int],
        jail: Jail,
        generations: Iterator[_Serve],
        lifetime_s: float,
    ) -> None:
        self._control, self._jail = control, jail
        self._generations, self._lifetime_s = generations, lifetime_s
        self._fewest, self._most = waiting
        self._files = most()
        self._serve = next(generations)
        self._leave, self._stay = os.pipe2(os.O_CLOEXEC)
        self._taken_out, self._taken_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._reactor = Reactor()
        self._stderr = Hearsay(self._reactor, PROGRAM, "a TLS engine")
        self._waiting: set[int] = set()
        self._retry: Timer | None = None
        self._backoff = Backoff()
        self._deaths = Deaths(PROGRAM, self._reactor.after)
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
                self._deaths.add(f"TLS engine {pid}", status)
                fell_while_waiting |= pid in self._waiting and status != 0
                self._waiting.discard(pid)
        if fell_while_waiting:
            self._refill_later()
        elif len(self._waiting) < self._fewest:
            self._refill()

    def _refill(self) -> None:
        if _is_drained(self._control):
            self._reactor.stop()
            return
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if most() < self._files:
            message = f"this pool ends, to be replaced: it may open {most()} files, not {self._files} any more"
            raise StageExit(PROGRAM, engine.SYSTEM, message, kind="warning")
        wanted = self._most if len(self._waiting) < self._fewest else 0
        while len(self._waiting) < wanted:
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
        self._retry = self._reactor.after(self._backoff.failed(), self._refill)

    def _fork(self) -> int:
        pid = fork()
        if pid == 0:
            with exits():
                stderr.redirect(self._stderr.writing)
                use(TEXT)
                close_all_but({0, 1, 2, self._control.fileno(), self._taken_in, self._leave, *self._jail.descriptors})
                self._jail.enter()
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
    gc.disable()
    connection = taking.await_connection(control, leave)
    if connection is None:
        return
    with contextlib.suppress(BrokenPipeError):  # a keeper that was killed needs no other child
        os.write(taken, _PID.pack(os.getpid()))
    for fd in (taken, leave):
        os.close(fd)
    control.close()
    fds = taking.whole(connection)
    if fds is not None:
        raise SystemExit(engine.run(context, options, fds))


def _serve_many(context: SSL.Context, options: SessionOptions, control: socket.socket, taken: int, leave: int) -> None:
    """Take connections until the server closes the control socket, and hold all their sessions to their end."""
    os.close(taken)
    _Worker(context, options, control, leave).run()


class _Worker:
    """Many sessions in one event loop."""

    def __init__(self, context: SSL.Context, options: SessionOptions, control: socket.socket, leave: int) -> None:
        self._control, self._leave = control, leave
        self._reactor = Reactor()
        self._engine = engine.Engine(self._reactor, context, options)
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
            taken = taking.receive(self._control)
        except BlockingIOError:
            return False
        except MemoryError:
            self._reactor.after(_RETRY_S, self._take_one)
            return False
        except OSError:
            taken = None
        if taken is None:
            self._close()
            return False
        fds = taking.whole(taken)
        if fds is not None:
            self._sessions += 1
            self._engine.start_session(fds, "", self._session_ended)
        return True

    def _leave_the_rest(self, _: int) -> None:
        """Take what the kernel may have told only this worker of, as `await_connection` does, and nothing after it."""
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
