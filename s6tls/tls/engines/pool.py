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

An engine reports only on the pipe that came with its connection (`s6tls.tls.engines.account`).  So even an
engine that an attacker controls cannot speak for another connection.  When the
server closes the control socket (new parameters, or the server's end) the waiting
children and the keeper go away, once every connection that was sent has been
taken; sessions are held to their end.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket

from s6tls.posix import fresh
from s6tls.posix.fdpass import DescriptorSender, control_pair, receive
from s6tls.tls.credentials import VALIDITY, Credentials, Isolation
from s6tls.tls.ends import MESSAGE_SIZE, Descriptors
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi import log

_LONGEST_REPORT = 2**16


class EnginePool(DescriptorSender):
    """The server's end of a pool, and a copy of the other end, to take back what nobody takes."""

    def __init__(self, pid: int, control: socket.socket, far: socket.socket, report: int) -> None:
        super().__init__(control)
        self.pid, self._far, self._report = pid, far, report
        self.given, self._said = 0, b""

    def send_connection(self, fds: Descriptors) -> None:
        """Send a connection to the pool; the descriptors are closed here once they are on their way.

        Raises OSError when the pool is gone; they are then still the caller's.
        """
        self.send(*fds.packed())
        self.given += 1

    def is_ready(self) -> bool:
        """Tell whether the pool has been able to use its credentials."""
        try:
            return not self.control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionError):
            return False

    def validities(self) -> list[tuple[int, int]]:
        """Return the dates of its certificates, of each pair's first, once it has used them; see `VALIDITY`."""
        if not self._said and self._report >= 0:
            with contextlib.suppress(BlockingIOError):
                self._said = os.read(self._report, _LONGEST_REPORT)
        whole = len(self._said) // VALIDITY.size * VALIDITY.size
        return list(VALIDITY.iter_unpack(self._said[:whole]))

    def await_ready(self, most_s: float) -> None:
        """Wait until the pool is ready, or has ended, but no longer than so many seconds.  Raises OSError."""
        keeper = os.pidfd_open(self.pid)
        try:
            either = select.poll()
            for fd in (self.control.fileno(), keeper):
                either.register(fd, select.POLLIN)
            either.poll(most_s * 1000)
        finally:
            os.close(keeper)

    def take_back(self) -> list[Descriptors]:
        """Return the connections that no engine has taken; they are the caller's again."""
        back = []
        while taken := receive(self._far, MESSAGE_SIZE, len(Descriptors._fields)):
            back.append(taken)
        unpacked = [Descriptors.unpacked(*taken) for taken in (*back, *self.take_queue())]
        return [fds for fds in unpacked if fds is not None]

    def close(self) -> None:
        """See `DescriptorSender`."""
        self.validities()
        super().close()
        self._far.close()
        os.close(self._report)
        self._report = -1


def start(parameters: TlsParameters, credentials: Credentials, isolation: Isolation) -> EnginePool:
    """Start a pool's keeper and return the server's end of it.

    The keeper says on stderr what is wrong with the parameters, and ends, or what is odd about them.  Raises
    OSError.
    """
    with contextlib.ExitStack() as unless_started, contextlib.ExitStack() as always:
        report, reporting = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        unless_started.callback(os.close, report)
        always.callback(os.close, reporting)
        ours, theirs = map(unless_started.enter_context, control_pair())
        setup = parameters, credentials, isolation, log.form(), log.are_warnings_silenced()
        kept = theirs.fileno(), reporting
        pid = fresh.start("s6tls.tls.engines.keeper", setup, *kept, forks_often=isolation.forks_often)
        unless_started.pop_all()
    ours.setblocking(False)
    return EnginePool(pid, ours, theirs, report)
