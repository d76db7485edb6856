"""A host: the processes that carry the sessions of one set of TLS parameters.

The server never speaks TLS.  It hands each accepted connection, as descriptors in
one message, to the host of the parameters that the client's rule asks for::

    server ── control socket ──> host ── forks ──> engine, engine, …

The host takes the ids of the TLS engine and loads key and certificates; its children
inherit the context, so all of them know the same ticket keys.  The host itself reads
nothing: it only keeps as many children waiting on the control socket as it should.

- With `Isolation.CONNECTION` a child takes one message, tells the host so, closes
  the control socket, and only then reads its first byte from the network.  It serves that
  connection and dies.  The host has a few children waiting, so that a client need not
  wait for a fork.
- With `Isolation.WORKER` each child takes messages for ever and carries all its
  sessions in one event loop.

An engine reports to nobody but the `notify` pipe that came with its connection, so
not even one that has been taken over can speak for another connection.  When the
server closes the control socket (new parameters, or the server's end) the waiting
children and the host go away, once every connection that was handed over has been
taken; sessions are carried to their end.
"""

from __future__ import annotations

import contextlib
import enum
import gc
import os
import resource
import select
import signal
import socket
import struct
from typing import TYPE_CHECKING

from s6tls.posix.fdpass import Handover, control_pair
from s6tls.posix.process import close_all_but, fork, redirect_to_null
from s6tls.posix.reactor import READABLE, Reactor, Timer
from s6tls.tls.credentials import PROGRAM, Material, Options
from s6tls.tls.ends import Descriptors
from s6tls.ucspi.log import log
from s6tls.ucspi.spawn import exits

if TYPE_CHECKING:
    from OpenSSL import SSL

    from s6tls.posix.identity import Identity

_WAITING_ENGINES = 2
_WORKERS = max(2, os.cpu_count() or 1)
_LARGEST_MESSAGE = 256
_DESCRIPTORS = 5
_PID = struct.Struct("=I")
_PAUSE = 0.2


class Isolation(enum.Enum):
    """What shares a process: nothing, or many sessions of the same parameters."""

    CONNECTION = "connection"
    WORKER = "worker"


class Host(Handover):
    """The server's end of a host."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        super().__init__(control)
        self.pid = pid

    def carry(self, fds: Descriptors, peer: str) -> None:
        """Hand a connection over; the descriptors are closed here once they are on their way.

        Raises OSError when the host is gone; they are then still the caller's.
        """
        message = peer.encode("ascii", "backslashreplace")[:_LARGEST_MESSAGE]
        self.send(message or b"-", (fds.net_in, fds.net_out, fds.from_program, fds.to_program, fds.notify))


def start(material: Material, options: Options, identity: Identity | None, isolation: Isolation) -> Host:
    """Fork a host and return the server's end of it.

    The host says on stderr what is wrong with the parameters, and ends.
    """
    ours, theirs = control_pair()
    pid = fork()
    if pid == 0:
        with exits():
            close_all_but({0, 1, 2, theirs.fileno()})
            redirect_to_null(0, 1)  # a listening socket, and where somebody may await that we are ready
            _host(theirs, material, options, identity, isolation)
    theirs.close()
    ours.setblocking(False)
    return Host(pid, ours)


def _host(
    control: socket.socket,
    material: Material,
    options: Options,
    identity: Identity | None,
    isolation: Isolation,
) -> None:
    """Settle, then keep children waiting on `control` until the server closes it."""
    from s6tls.tls import engine
    from s6tls.tls.warmup import rehearse

    settled = engine.settle(material, options, identity)
    rehearse(settled, options)
    gc.collect()
    gc.freeze()
    if isolation is Isolation.CONNECTION:
        serve, wanted = _serve_one, _WAITING_ENGINES
    else:
        serve, wanted = _serve_many, _WORKERS
        control.setblocking(False)
    taken_out, taken_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    reactor = Reactor()
    waiting: set[int] = set()
    pause: Timer | None = None

    def keep_children() -> None:
        nonlocal pause
        if _finished(control):
            reactor.stop()
            return
        if pause is not None:
            pause.cancel()
            pause = None
        while len(waiting) < wanted:
            try:
                pid = fork()
            except OSError as error:
                log(PROGRAM, "warning", f"unable to fork: {error.strerror}")
                pause = reactor.after(_PAUSE, keep_children)
                return
            if pid == 0:
                with exits():
                    close_all_but({0, 1, 2, control.fileno(), taken_in})
                    serve(control, taken_in, settled, options)
            waiting.add(pid)

    def child_took_a_connection(_: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.difference_update(pid for (pid,) in _PID.iter_unpack(os.read(taken_out, 64 * _PID.size)))
        keep_children()

    def child_ended() -> None:
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                waiting.discard(pid)
        keep_children()

    reactor.watch_signals({signal.SIGCHLD: child_ended})
    reactor.watch(taken_out, READABLE, child_took_a_connection)
    reactor.watch(control.fileno(), 0, lambda _: keep_children())
    keep_children()
    reactor.run()


def _serve_one(control: socket.socket, taken: int, settled: SSL.Context, options: Options) -> None:
    """Take one connection, and let go of everything else before its first byte is read."""
    from s6tls.tls import engine

    gc.disable()
    message, fds, _, _ = socket.recv_fds(control, _LARGEST_MESSAGE, _DESCRIPTORS)
    if not message:
        return
    with contextlib.suppress(BrokenPipeError):  # a host that was killed needs no other child
        os.write(taken, _PID.pack(os.getpid()))
    os.close(taken)
    control.close()
    if _complete(fds):
        raise SystemExit(engine.run(settled, options, Descriptors(*fds), message.decode("ascii", "replace")))


def _serve_many(control: socket.socket, taken: int, settled: SSL.Context, options: Options) -> None:
    """Take connections until the server closes the control socket, and carry them all to their end."""
    from s6tls.tls import engine

    os.close(taken)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    reactor = Reactor()
    sessions = 0
    closed = False

    def ended(_code: int) -> None:
        nonlocal sessions
        sessions -= 1
        if closed and not sessions:
            reactor.stop()

    def take_one(_: int = 0) -> None:
        nonlocal sessions, closed
        if closed:
            return
        try:
            message, fds, _, _ = socket.recv_fds(control, _LARGEST_MESSAGE, _DESCRIPTORS)
        except BlockingIOError:
            return
        except MemoryError:
            reactor.after(_PAUSE, take_one)
            return
        except OSError:
            message, fds = b"", []
        if not message:
            closed = True
            reactor.forget(control.fileno())
            control.close()
            if not sessions:
                reactor.stop()
            return
        reactor.soon(take_one)
        if _complete(fds):
            sessions += 1
            engine.carry(reactor, settled, options, Descriptors(*fds), message.decode("ascii", "replace"), ended)

    reactor.watch(control.fileno(), READABLE | select.EPOLLEXCLUSIVE, take_one)
    reactor.run()


def _finished(control: socket.socket) -> bool:
    """Tell whether the server has closed the control socket, and every connection has been taken from it."""
    try:
        return not control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _complete(fds: list[int]) -> bool:
    """Tell whether all descriptors of a connection have arrived; close them when some are missing."""
    if len(fds) == _DESCRIPTORS:
        return True
    for fd in fds:
        os.close(fd)
    log(PROGRAM, "fatal", "unable to take a connection: too many open files")
    return False
