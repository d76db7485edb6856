"""The one long-lived process: accepts, applies the chain to each connection, starts its program, and sees it end.

A connection goes through the stages as far as it can in one go.  A stage that must
hear from elsewhere (the TLS engine) leaves it waiting in the event loop, so that no
connection ever waits for another.  A connection holds its slot from its acceptance until both its program and its
session (see `OpenSession`) have ended, or to its refusal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.process import fork
from s6tls.posix.reactor import READABLE, Reactor
from s6tls.ucspi.acceptor import Acceptor
from s6tls.ucspi.connection import CLOSING, SERVED, Connection, how_ended
from s6tls.ucspi.failures import ClientFailures
from s6tls.ucspi.following import follow
from s6tls.ucspi.image import (
    SERVER,
    SHORTAGES,
    Chain,
    ClientFailure,
    Deadline,
    OpenSession,
    Shortage,
    StageExit,
    Waiting,
)
from s6tls.ucspi.ledger import Client, Ledger
from s6tls.ucspi.listen import endpoint, local_endpoint
from s6tls.ucspi.log import Seldom, Told, log, log_exit, log_start
from s6tls.ucspi.spawn import exits, spawn
from s6tls.ucspi.status.counts import Counts

_AFTERLIFE_S = 60.0
"""How long a connection that is on its way when the server ends may take to get its program."""
_TERMINATION = (signal.SIGTERM, signal.SIGCONT)


class Lifecycle(Protocol):
    """What happens around the super-server, in the order in which it calls."""

    def ready(self) -> None:
        """Do what is due when clients can connect."""

    def reread(self) -> None:
        """Read all files anew, for a signal has said so."""

    def reaped(self, pid: int, status: int) -> None:
        """Take note of the end of a child that was no connection's program."""

    def stopping(self) -> None:
        """Do what is due when a signal has said to stop; connections may go on."""

    def close(self) -> None:
        """Let go of what the stages share: no connection will need it any more."""

    def stopped(self) -> None:
        """Do what is due when this process serves nobody any more."""


class SuperServer:
    """Serves a listening socket until a signal says to stop: each connection goes through `chain`.

    `connections` are those that hold a slot.  What becomes of them is counted in `counts`.
    """

    def __init__(
        self,
        reactor: Reactor,
        listener: socket.socket,
        chain: Chain,
        ledger: Ledger,
        lifecycle: Lifecycle,
        counts: Counts,
    ) -> None:
        self._reactor, self._chain, self._ledger, self._lifecycle = reactor, chain, ledger, lifecycle
        self._log = ledger.log
        self.bound_to = endpoint(listener.getsockname())
        self._is_bound_to_one = self.bound_to[0] not in ("0.0.0.0", "::")
        self._acceptor = Acceptor(reactor, listener, ledger, self._admit)
        self._counts = counts
        self.connections: set[Connection] = set()
        self._waiting: set[Connection] = set()
        self._programs: dict[int, Connection] = {}
        self._failures = ClientFailures(reactor.after, self._log.verbosity)
        self._shortages = Seldom(SERVER)
        self._finishing = False

    def serve(self) -> None:
        """Accept connections until SIGTERM, SIGQUIT or SIGABRT."""
        self._reactor.watch_signals(
            {
                signal.SIGCHLD: self._reap,
                signal.SIGTERM: self._terminate,
                signal.SIGHUP: lambda: self._signal_connections("received SIGHUP", _TERMINATION),
                signal.SIGUSR1: self._lifecycle.reread,
                signal.SIGQUIT: lambda: self._stop_with(signal.SIGQUIT, _TERMINATION),
                signal.SIGABRT: lambda: self._stop_with(signal.SIGABRT, [signal.SIGKILL]),
            }
        )
        ip, port = self.bound_to
        self._log.info(Told("{event} - bound to ip {ip} port {port}", event="starting", ip=ip, port=port))
        self._lifecycle.ready()
        self._ledger.log_status()
        self._acceptor.start()
        self._reap()
        self._reactor.run()
        self._lifecycle.stopped()
        self._ledger.log_rest()
        self._failures.log_rest()
        self._log.info("exiting")
        if self._waiting:
            self._leave_waiting_to_a_child()

    # The chain

    def _admit(self, accepted: int, client: Client) -> None:
        try:
            local_ip, local_port = self.bound_to if self._is_bound_to_one else local_endpoint(accepted)
        except OSError:
            os.close(accepted)
            return
        already = self._ledger.admit(client)
        if already is None:
            os.close(accepted)
            return
        env = {
            b"PROTO": b"TCP",
            b"TCPLOCALIP": local_ip.encode(),
            b"TCPLOCALPORT": b"%d" % local_port,
            b"TCPREMOTEIP": client.address.encode(),
            b"TCPREMOTEPORT": b"%d" % client.port,
            b"TCPCONNNUM": b"%d" % already,
        }
        connection = Connection(client, self._chain.image(accepted, env))
        self.connections.add(connection)
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
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
            failure = Shortage if error.errno in SHORTAGES else StageExit
            self._refuse(connection, failure(image.link, ExitCode.SYSTEM, message))

    def _wait(self, connection: Connection, waiting: Waiting) -> None:
        """Go on when a stage has heard: after new clients have been taken, for whom engines can work meanwhile."""

        def go_on() -> None:
            if connection.waiting is waiting:  # which may have been given up
                self._advance(connection)

        connection.waiting = waiting
        connection.state, connection.asked = connection.image.link, time.monotonic()
        self._waiting.add(connection)
        self._ledger.enter_handshake(connection.client)
        os.set_blocking(waiting.fd, False)
        self._reactor.watch(waiting.fd, READABLE, lambda _: self._reactor.soon(go_on))
        deadline = waiting.deadline
        if deadline is not None:
            seconds = deadline.moment - connection.asked
            connection.timer = self._reactor.after(seconds, lambda: self._cut_off(connection, deadline))

    def _has_heard(self, connection: Connection) -> bool:
        """Tell whether a connection need not wait, or not any longer."""
        if connection.waiting is None:
            return True
        if not connection.waiting.resume():
            return False
        self._counts.waited(connection.image, time.monotonic() - connection.asked)
        self._stop_waiting(connection)
        return True

    def _stop_waiting(self, connection: Connection) -> None:
        if connection.waiting is not None:
            self._reactor.forget(connection.waiting.fd)
            connection.waiting.close()
            connection.waiting = None
            self._waiting.discard(connection)
            self._ledger.leave_handshake(connection.client)
            if connection.timer is not None:
                connection.timer.cancel()
                connection.timer = None

    def _start(self, connection: Connection) -> None:
        """Start the program; a refusal to do so leaves the connection to be refused."""
        connection.pid = spawn(connection.image)
        self._programs[connection.pid] = connection
        connection.state = SERVED
        self._counts.served()
        connection.image.close()
        self._log_accept(connection)
        session = connection.image.session
        if session is not None:
            connection.pending += 1
            self._follow(session, lambda: self._end_session(connection, session))

    def _refuse(self, connection: Connection, refused: StageExit) -> None:
        """End a connection as a stage wants it; it gets the log lines of one whose process said so, and this is that.

        When the server cannot start the program itself, there was no process and a warning says all.
        """
        self._counts.refused(refused, connection.image.rule)
        if refused.kind == "warning":
            self._log_exit(refused)
            self._drop(connection)
            return
        self._log_accept(connection)
        self._log_exit(refused)
        self._drop(connection, f"exitcode {refused.code}")

    def _cut_off(self, connection: Connection, deadline: Deadline) -> None:
        """End a connection that has no program in time, whoever it waits for; that may have the socket open, too."""
        if deadline.give_up is not None:
            with contextlib.suppress(OSError):
                deadline.give_up()
        image = connection.image
        fd = image.stdin if image.network is None else image.network
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            network = socket.socket(fileno=fd)
            with contextlib.suppress(OSError):
                network.shutdown(socket.SHUT_RDWR)
            network.detach()
        self._refuse(connection, deadline.refusal())

    def _log_accept(self, connection: Connection) -> None:
        self._ledger.log_accept(connection.client, connection.pid)
        log_start(connection.image, connection.pid)

    def _log_exit(self, stage_exit: StageExit) -> None:
        if isinstance(stage_exit, ClientFailure):
            self._failures.log(stage_exit)
        elif isinstance(stage_exit, Shortage):
            self._shortages.warning(stage_exit.message)
        elif stage_exit.kind != "warning" or self._log.verbosity >= 1:
            log_exit(stage_exit)

    # Ends

    def _drop(self, connection: Connection, how: str = "") -> None:
        """End a connection that has no program, as soon as its session has ended; without `how` no line tells."""
        self._stop_waiting(connection)
        connection.image.close()
        connection.state = CLOSING
        session = connection.image.session
        if session is None:
            self._end_program(connection, how)
        else:
            self._follow(session, lambda: self._end_program(connection, how))

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                connection = self._programs.pop(pid, None)
                if connection is not None:
                    self._end_program(connection, how_ended(status))
                else:
                    self._lifecycle.reaped(pid, status)
        if self._finishing and not self._ledger.count:
            self._reactor.stop()

    def _end_program(self, connection: Connection, how: str) -> None:
        connection.state = CLOSING
        is_over = self._is_over(connection)
        if how:
            self._ledger.log_end(connection.client, connection.pid, how)
        if is_over:
            if how:
                self._ledger.log_status()
            self._go_on()

    def _follow(self, session: OpenSession, ended: Callable[[], None]) -> None:
        """Call `ended` when a session has."""

        def over() -> None:
            failure = session.failure
            if failure is not None:
                self._log_exit(failure)
                self._counts.failed(failure)
            ended()

        follow(self._reactor, session, over)

    def _end_session(self, connection: Connection, session: OpenSession) -> None:
        is_over = self._is_over(connection)
        seconds = time.monotonic() - connection.accepted
        self._counts.ended(session, seconds)
        self._ledger.log_session(connection.client, connection.pid, seconds, session)
        if is_over:
            self._ledger.log_status()
            self._go_on()

    def _is_over(self, connection: Connection) -> bool:
        """Take note that a part of a connection has ended; with the last, take the slot back."""
        connection.pending -= 1
        if not connection.pending:
            self.connections.discard(connection)
            self._ledger.release(connection.client)
        return not connection.pending

    def _go_on(self) -> None:
        """Let the next client have the slot, if there is to be one."""
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
        self._acceptor.finish()
        self._log.info("received SIGTERM, quitting")
        self._lifecycle.stopping()
        if drain_s:
            self._finishing = True
            self._reactor.after(drain_s, self._out_of_time)
            self._finish()
        else:
            self._reactor.stop()

    def _out_of_time(self) -> None:
        self._signal_connections("out of time", _TERMINATION, " and quitting")
        self._reactor.stop()

    def _stop_with(self, received: signal.Signals, sent: Sequence[signal.Signals]) -> None:
        self._acceptor.close()  # nobody is let in any more whom this does not reach
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
        self._drop_waiting(sent[0])

    def _leave_waiting_to_a_child(self) -> None:
        """Let the connections still in the chain live on, as those with a program do, while the server exits."""
        try:
            if fork():
                return
        except OSError as error:
            log(SERVER, "warning", f"unable to fork for connections under way: {error.strerror}")
            return
        with exits():
            self._finishing = True
            self._reactor.watch_signals({signal.SIGCHLD: self._reap})
            self._reactor.after(_AFTERLIFE_S, lambda: self._drop_waiting(signal.SIGTERM))
            while self._waiting:
                self._reactor.turn()

    def _drop_waiting(self, number: signal.Signals) -> None:
        for connection in list(self._waiting):
            self._log_accept(connection)
            self._drop(connection, f"signal {int(number)}")
