"""The one long-lived process: accepts, applies the chain to each connection, starts its program, and counts.

A connection goes through the stages as far as it can in one go.  A stage that must
hear from elsewhere (the TLS engine) leaves it waiting in the event loop, so that no
connection ever waits for another.  A connection counts from its acceptance to the end
of its program, or to its refusal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.process import fork
from s6tls.posix.reactor import READABLE, Reactor
from s6tls.ucspi.image import SERVER, Image, Refused, Stage, Waiting
from s6tls.ucspi.listen import endpoint
from s6tls.ucspi.log import log, log_refusal, log_start
from s6tls.ucspi.spawn import exits, spawn

_ACCEPTS_A_TURN = 32
_PAUSE = 0.1
_CLIENT_IS_GONE = (
    errno.ECONNABORTED,
    errno.EINTR,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
)  # what accept(2) may report of a connection instead of handing it over


@dataclass(frozen=True)
class Limits:
    """How many connections at once, in all and from one address; and how long SIGTERM lets them finish, in seconds."""

    total: int = 40
    per_address: int = 40
    drain: float = 0.0


class _Connection:
    """One client on its way through the chain."""

    __slots__ = ("address", "image", "port", "waiting")

    def __init__(self, address: str, port: int, image: Image) -> None:
        self.address, self.port, self.image = address, port, image
        self.waiting: Waiting | None = None

    @property
    def client(self) -> str:
        return f"{self.address}_{self.port}"


class Supervisor:
    """Serves a listening socket until a signal says to stop.

    `stages` and `argv` are what each connection goes through and then runs, `env` what
    it starts with.  `verbosity` 0 logs fatal errors only, 1 also warnings, 2 every client.
    `reaped` is told the pid and status of children that were not a connection's program.  `stopping` is called when a
    signal says to stop, `close` when no connection will need what the stages share.
    """

    def __init__(
        self,
        reactor: Reactor,
        listener: socket.socket,
        env: dict[bytes, bytes],
        stages: Sequence[Stage],
        argv: Sequence[bytes],
        limits: Limits,
        verbosity: int,
        reaped: Callable[[int, int], object] | None = None,
        stopping: Callable[[], object] = lambda: None,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self._reactor, self._listener = reactor, listener
        self._env, self._stages, self._argv = dict(env), tuple(stages), list(argv)
        self._env[b"PROTO"] = b"TCP"
        self._limits, self._verbosity, self._reaped = limits, verbosity, reaped
        self._programs: dict[int, _Connection] = {}
        self._waiting: set[_Connection] = set()
        self._per_address: Counter[str] = Counter()
        self._count = 0
        self._accepting = True
        self._finishing = False
        self._stopping, self._close = stopping, close

    def serve(self, ready: Callable[[], None]) -> None:
        """Accept connections until SIGTERM, SIGQUIT or SIGABRT.  `ready` is called before the first."""
        self._reactor.watch_signals(
            {
                signal.SIGCHLD: self._reap,
                signal.SIGTERM: self._terminate,
                signal.SIGHUP: lambda: self._signal_connections("received SIGHUP", "SIGTERM and SIGCONT"),
                signal.SIGQUIT: lambda: self._stop_with("SIGQUIT", "SIGTERM and SIGCONT"),
                signal.SIGABRT: lambda: self._stop_with("SIGABRT", "SIGKILL"),
            }
        )
        ip, port = endpoint(self._listener.getsockname())
        self._inform(f"starting - bound to ip {ip} port {port}")
        ready()
        self._log_status()
        self._reactor.watch(self._listener.fileno(), READABLE, lambda _: self._accept())
        self._reap()
        self._reactor.run()
        self._inform("exiting")
        if self._waiting:
            self._leave_waiting_to_a_child()

    # Accepting

    def _accept(self) -> None:
        """Accept what is there, giving way to the connections under way every so often.

        At the limit the rest waits in the kernel's backlog; `_release` comes back here.
        """
        for _ in range(_ACCEPTS_A_TURN):
            if self._finishing:
                return
            if self._count >= self._limits.total:
                self._accepting = False
                return
            try:
                accepted, client = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._accept_failed(error)
                return
            self._admit(accepted, *endpoint(client))
        self._reactor.soon(self._accept)

    def _accept_failed(self, error: OSError) -> None:
        """Go on after a client that left again; pause when the system is out of something."""
        if error.errno in _CLIENT_IS_GONE:
            self._reactor.soon(self._accept)
            return
        if self._verbosity >= 1:
            log(SERVER, "warning", f"unable to accept: {error.strerror}")
        self._reactor.after(_PAUSE, self._accept)

    def _admit(self, accepted: socket.socket, address: str, port: int) -> None:
        already = self._per_address[address]
        if already >= self._limits.per_address:
            accepted.close()
            if self._verbosity >= 1:
                log(SERVER, "info", f"reject {address}_{port} count {already}/{self._limits.per_address}")
            return
        try:
            local_ip, local_port = endpoint(accepted.getsockname())
        except OSError:
            accepted.close()
            return
        env = self._env.copy()
        env[b"TCPLOCALIP"] = local_ip.encode()
        env[b"TCPLOCALPORT"] = b"%d" % local_port
        env[b"TCPREMOTEIP"] = address.encode()
        env[b"TCPREMOTEPORT"] = b"%d" % port
        env[b"TCPCONNNUM"] = b"%d" % already
        fd = accepted.detach()
        connection = _Connection(address, port, Image(env, self._argv.copy(), fd, fd, stages=deque(self._stages)))
        self._count += 1
        self._per_address[address] += 1
        self._advance(connection)

    # The chain

    def _advance(self, connection: _Connection) -> None:
        """Take a connection as far along the chain as it goes now."""
        image = connection.image
        try:
            while image.stages:
                waiting = image.apply_next()
                if waiting is not None:
                    self._wait(connection, waiting)
                    return
            self._start(connection)
        except Refused as refused:
            self._refuse(connection, refused)
        except OSError as error:
            self._refuse(connection, self._unable_to_serve(connection, error))

    def _wait(self, connection: _Connection, waiting: Waiting) -> None:
        connection.waiting = waiting
        self._waiting.add(connection)
        os.set_blocking(waiting.fd, False)
        self._reactor.watch(waiting.fd, READABLE, lambda _: self._resume(connection))

    def _resume(self, connection: _Connection) -> None:
        waiting = connection.waiting
        if waiting is None:
            return
        try:
            done = waiting.resume()
        except Refused as refused:
            self._refuse(connection, refused)
            return
        except OSError as error:
            self._refuse(connection, self._unable_to_serve(connection, error))
            return
        if done:
            self._stop_waiting(connection)
            self._advance(connection)

    def _stop_waiting(self, connection: _Connection) -> None:
        if connection.waiting is not None:
            self._reactor.forget(connection.waiting.fd)
            connection.waiting.close()
            connection.waiting = None
            self._waiting.discard(connection)
            if self._finishing and not self._waiting:
                self._reactor.stop()

    def _start(self, connection: _Connection) -> None:
        """Start the program; a refusal to do so leaves the connection to be refused."""
        pid = spawn(connection.image)
        self._programs[pid] = connection
        connection.image.close()
        self._log_accept(connection, pid)

    def _refuse(self, connection: _Connection, refused: Refused) -> None:
        """End a connection as a stage wants it; it gets the log lines of one whose process said so, and this is that.

        When the server cannot start the program itself, there was no process and a warning says all.
        """
        if refused.kind == "warning":
            if self._verbosity >= 1:
                log_refusal(refused)
            self._drop(connection)
            return
        self._log_accept(connection, os.getpid())
        log_refusal(refused)
        self._drop(connection, f"exitcode {refused.code}")

    def _drop(self, connection: _Connection, ending: str = "") -> None:
        """End a connection that has no program."""
        self._stop_waiting(connection)
        connection.image.close()
        self._release(connection, f"pid {os.getpid()} {ending}" if ending else "")

    def _unable_to_serve(self, connection: _Connection, error: OSError) -> Refused:
        return Refused(
            connection.image.link, ExitCode.SYSTEM, f"unable to serve {connection.client}: {error.strerror or error}"
        )

    # Ends

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                connection = self._programs.pop(pid, None)
                if connection is not None:
                    self._release(connection, f"pid {pid} {_ending(status)}")
                elif self._reaped is not None:
                    self._reaped(pid, status)
        if self._finishing and not self._count:
            self._reactor.stop()

    def _release(self, connection: _Connection, ending: str) -> None:
        """Count a connection out, and accept again if the limit had been reached."""
        self._count -= 1
        self._per_address[connection.address] -= 1
        if ending:
            self._inform(f"end {ending} count {self._counts(connection)}")
            self._log_status()
        if not self._per_address[connection.address]:
            del self._per_address[connection.address]
        if self._finishing:
            self._finish()
        elif not self._accepting:
            self._accepting = True
            self._reactor.soon(self._accept)

    # Signals

    def _terminate(self) -> None:
        drain = self._limits.drain and not self._finishing
        if drain:
            self._stop_accepting()
        self._inform("received SIGTERM, quitting")
        self._stopping()
        if drain:
            self._reactor.after(self._limits.drain, self._out_of_time)
            self._finish()
        else:
            self._reactor.stop()

    def _finish(self) -> None:
        """When no connection is left, wait for the children that may still be sending; `_reap` sees the last go."""
        if not self._count:
            self._close()
            self._reactor.soon(self._reap)

    def _out_of_time(self) -> None:
        self._signal_connections("out of time", "SIGTERM and SIGCONT", " and quitting")
        self._reactor.stop()

    def _stop_accepting(self) -> None:
        self._finishing = True
        self._reactor.forget(self._listener.fileno())
        self._listener.close()

    def _stop_with(self, received: str, sent: str) -> None:
        self._stopping()
        self._signal_connections(f"received {received}", sent, " and quitting")
        self._reactor.stop()

    def _signal_connections(self, why: str, sent: str, more: str = "") -> None:
        """Signal every connection's program; a connection that has none yet ends here."""
        self._inform(f"{why}, sending {sent} to all connections{more}")
        numbers = [signal.Signals[name] for name in sent.split(" and ")]
        for pid in self._programs:
            for number in numbers:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        for connection in list(self._waiting):
            self._log_accept(connection, os.getpid())
            self._drop(connection, f"signal {int(numbers[0])}")

    def _leave_waiting_to_a_child(self) -> None:
        """Let the connections still in the chain live on, as those with a program do, while the server exits."""
        try:
            if fork():
                return
        except OSError as error:
            log(SERVER, "warning", f"unable to fork for connections under way: {error.strerror}")
            return
        with exits():
            if not self._finishing:
                self._stop_accepting()
            while self._waiting:
                self._reactor.run()

    # Log lines

    def _log_accept(self, connection: _Connection, pid: int) -> None:
        self._inform(f"accept {connection.client} pid {pid} count {self._counts(connection)}")
        self._log_status()
        log_start(connection.image, pid)

    def _counts(self, connection: _Connection) -> str:
        return f"{self._per_address[connection.address]}/{self._limits.per_address}"

    def _log_status(self) -> None:
        self._inform(f"status: {self._count}/{self._limits.total}")

    def _inform(self, message: str) -> None:
        if self._verbosity >= 2:
            log(SERVER, "info", message)


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exitcode {os.WEXITSTATUS(status)}"
