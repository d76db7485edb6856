"""The one long-lived process: accepts, applies the chain to each connection, starts its program, and sees it end.

A connection goes through the stages as far as it can in one go.  A stage that must
hear from elsewhere (the TLS engine) leaves it waiting in the event loop, so that no
connection ever waits for another.  A connection holds its slot from its acceptance to the end
of its program, or to its refusal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from typing import Protocol

from s6tls.posix.process import fork
from s6tls.posix.reactor import READABLE, Reactor
from s6tls.ucspi.acceptor import Acceptor
from s6tls.ucspi.image import SERVER, Chain, Image, StageExit, Waiting
from s6tls.ucspi.ledger import Client, Ledger
from s6tls.ucspi.listen import endpoint
from s6tls.ucspi.log import log, log_exit, log_start
from s6tls.ucspi.spawn import exits, spawn

_TERMINATION = (signal.SIGTERM, signal.SIGCONT)


class Lifecycle(Protocol):
    """What happens around the super-server, in the order in which it calls."""

    def ready(self) -> None:
        """Do what is due when clients can connect."""

    def reaped(self, pid: int, status: int) -> None:
        """Take note of the end of a child that was no connection's program."""

    def stopping(self) -> None:
        """Do what is due when a signal has said to stop; connections may go on."""

    def close(self) -> None:
        """Let go of what the stages share: no connection will need it any more."""


class _Connection:
    """One client on its way through the chain."""

    __slots__ = ("client", "image", "waiting")

    def __init__(self, client: Client, image: Image) -> None:
        self.client, self.image = client, image
        self.waiting: Waiting | None = None


class SuperServer:
    """Serves a listening socket until a signal says to stop: each connection goes through `chain`."""

    def __init__(
        self, reactor: Reactor, listener: socket.socket, chain: Chain, ledger: Ledger, lifecycle: Lifecycle
    ) -> None:
        self._reactor, self._chain, self._ledger, self._lifecycle = reactor, chain, ledger, lifecycle
        self._log = ledger.log
        self._bound_to = endpoint(listener.getsockname())
        self._acceptor = Acceptor(reactor, listener, ledger, self._admit)
        self._waiting: set[_Connection] = set()
        self._programs: dict[int, _Connection] = {}
        self._finishing = False

    def serve(self) -> None:
        """Accept connections until SIGTERM, SIGQUIT or SIGABRT."""
        self._reactor.watch_signals(
            {
                signal.SIGCHLD: self._reap,
                signal.SIGTERM: self._terminate,
                signal.SIGHUP: lambda: self._signal_connections("received SIGHUP", _TERMINATION),
                signal.SIGQUIT: lambda: self._stop_with(signal.SIGQUIT, _TERMINATION),
                signal.SIGABRT: lambda: self._stop_with(signal.SIGABRT, [signal.SIGKILL]),
            }
        )
        self._log.info("starting - bound to ip {} port {}".format(*self._bound_to))
        self._lifecycle.ready()
        self._ledger.log_status()
        self._acceptor.start()
        self._reap()
        self._reactor.run()
        self._ledger.log_rest()
        self._log.info("exiting")
        if self._waiting:
            self._leave_waiting_to_a_child()

    # The chain

    def _admit(self, accepted: socket.socket, client: Client) -> None:
        try:
            local_ip, local_port = endpoint(accepted.getsockname())
        except OSError:
            accepted.close()
            return
        already = self._ledger.admit(client)
        if already is None:
            accepted.close()
            return
        env = {
            b"PROTO": b"TCP",
            b"TCPLOCALIP": local_ip.encode(),
            b"TCPLOCALPORT": b"%d" % local_port,
            b"TCPREMOTEIP": client.address.encode(),
            b"TCPREMOTEPORT": b"%d" % client.port,
            b"TCPCONNNUM": b"%d" % already,
        }
        self._advance(_Connection(client, self._chain.image(accepted.detach(), env)))

    def _advance(self, connection: _Connection) -> None:
        """Take a connection as far along the chain as it goes now."""
        image = connection.image
        try:
            if not self._has_heard(connection):
                return
            while image.stages:
                waiting = image.apply_next()
                if waiting is not None:
                    self._wait(connection, waiting)
                    return
            self._start(connection)
        except StageExit as refused:
            self._refuse(connection, refused)
        except OSError as error:
            message = f"unable to serve {connection.client}: {error.strerror or error}"
            self._refuse(connection, StageExit(image.link, 111, message))

    def _wait(self, connection: _Connection, waiting: Waiting) -> None:
        connection.waiting = waiting
        self._waiting.add(connection)
        self._ledger.enter_handshake(connection.client)
        os.set_blocking(waiting.fd, False)
        self._reactor.watch(waiting.fd, READABLE, lambda _: self._advance(connection))

    def _has_heard(self, connection: _Connection) -> bool:
        """Tell whether a connection need not wait, or not any longer."""
        if connection.waiting is None:
            return True
        if not connection.waiting.resume():
            return False
        self._stop_waiting(connection)
        return True

    def _stop_waiting(self, connection: _Connection) -> None:
        if connection.waiting is not None:
            self._reactor.forget(connection.waiting.fd)
            connection.waiting.close()
            connection.waiting = None
            self._waiting.discard(connection)
            self._ledger.leave_handshake(connection.client)

    def _start(self, connection: _Connection) -> None:
        """Start the program; a refusal to do so leaves the connection to be refused."""
        pid = spawn(connection.image)
        self._programs[pid] = connection
        connection.image.close()
        self._log_accept(connection, pid)

    def _refuse(self, connection: _Connection, refused: StageExit) -> None:
        """End a connection as a stage wants it; it gets the log lines of one whose process said so, and this is that.

        When the server cannot start the program itself, there was no process and a warning says all.
        """
        if refused.kind == "warning":
            if self._log.verbosity >= 1:
                log_exit(refused)
            self._drop(connection)
            return
        self._log_accept(connection, os.getpid())
        log_exit(refused)
        self._drop(connection, f"exitcode {refused.code}")

    def _log_accept(self, connection: _Connection, pid: int) -> None:
        self._ledger.log_accept(connection.client, pid)
        log_start(connection.image, pid)

    # Ends

    def _drop(self, connection: _Connection, how: str = "") -> None:
        """End a connection that has no program; without `how` no line tells."""
        self._stop_waiting(connection)
        connection.image.close()
        self._end(connection, os.getpid(), how)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                connection = self._programs.pop(pid, None)
                if connection is not None:
                    self._end(connection, pid, _how(status))
                else:
                    self._lifecycle.reaped(pid, status)
        if self._finishing and not self._ledger.count:
            self._reactor.stop()

    def _end(self, connection: _Connection, pid: int, how: str) -> None:
        """Give a connection's slot back, to the next client if there is to be one."""
        self._ledger.release(connection.client)
        if how:
            self._ledger.log_end(connection.client, pid, how)
        if self._finishing:
            self._finish()
        else:
            self._acceptor.resume()

    def _finish(self) -> None:
        """When no connection is left, wait for the children that may still be sending; `_reap` sees the last go."""
        if not self._ledger.count:
            self._lifecycle.close()
            self._reactor.soon(self._reap)

    # Signals

    def _terminate(self) -> None:
        drain_s = 0 if self._finishing else self._ledger.limits.drain_s
        if drain_s:
            self._stop_accepting()
        self._log.info("received SIGTERM, quitting")
        self._lifecycle.stopping()
        if drain_s:
            self._reactor.after(drain_s, self._out_of_time)
            self._finish()
        else:
            self._reactor.stop()

    def _stop_accepting(self) -> None:
        self._finishing = True
        self._acceptor.close()

    def _out_of_time(self) -> None:
        self._signal_connections("out of time", _TERMINATION, " and quitting")
        self._reactor.stop()

    def _stop_with(self, received: signal.Signals, sent: Sequence[signal.Signals]) -> None:
        self._lifecycle.stopping()
        self._signal_connections(f"received {received.name}", sent, " and quitting")
        self._reactor.stop()

    def _signal_connections(self, why: str, sent: Sequence[signal.Signals], more: str = "") -> None:
        """Signal every connection's program; a connection that has none yet ends here."""
        names = " and ".join(number.name for number in sent)
        self._log.info(f"{why}, sending {names} to all connections{more}")
        for pid in self._programs:
            for number in sent:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        for connection in list(self._waiting):
            self._log_accept(connection, os.getpid())
            self._drop(connection, f"signal {int(sent[0])}")

    def _leave_waiting_to_a_child(self) -> None:
        """Let the connections still in the chain live on, as those with a program do, while the server exits."""
        try:
            if fork():
                return
        except OSError as error:
            log(SERVER, "warning", f"unable to fork for connections under way: {error.strerror}")
            return
        with exits():
            self._stop_accepting()
            while self._waiting:
                self._reactor.turn()


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exitcode {os.WEXITSTATUS(status)}"
