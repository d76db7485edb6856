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

from s6tls.ucspi.image import Image, Refused, Stage, Waiting
from s6tls.ucspi.listen import endpoint
from s6tls.ucspi.log import log, log_refusal, log_start
from s6tls.ucspi.process import spawn
from s6tls.ucspi.reactor import READABLE, Reactor

PROGRAM = "s6-tcpserverd"
_ACCEPTS_A_TURN = 32
_PAUSE = 0.1
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True)
class Limits:
    """How many connections at once: in all, and from one address."""

    total: int = 40
    per_address: int = 40


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
    `reaped` is asked about children that are not a connection's program.
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
        reaped: Callable[[int, int], bool] = lambda pid, status: False,
    ) -> None:
        self._reactor, self._listener = reactor, listener
        self._env, self._stages, self._argv = dict(env), tuple(stages), list(argv)
        self._env[b"PROTO"] = b"TCP"
        self._limits, self._verbosity, self._reaped = limits, verbosity, reaped
        self._programs: dict[int, _Connection] = {}
        self._per_address: Counter[str] = Counter()
        self._count = 0
        self._accepting = True

    def serve(self) -> None:
        """Accept connections until SIGTERM, SIGQUIT or SIGABRT."""
        if self._verbosity >= 2:
            ip, port = endpoint(self._listener.getsockname())
            log(PROGRAM, "info", f"starting - bound to ip {ip} port {port}")
            self._log_status()
        self._reactor.watch_signals(
            {
                signal.SIGCHLD: self._reap,
                signal.SIGTERM: self._reactor.stop,
                signal.SIGHUP: lambda: self._signal_programs(signal.SIGTERM, signal.SIGCONT),
                signal.SIGQUIT: lambda: self._stop_with(signal.SIGTERM, signal.SIGCONT),
                signal.SIGABRT: lambda: self._stop_with(signal.SIGKILL),
            }
        )
        self._reactor.watch(self._listener.fileno(), READABLE, lambda _: self._accept())
        self._reap()
        self._reactor.run()
        if self._verbosity >= 2:
            log(PROGRAM, "info", "exiting")

    # Accepting

    def _accept(self) -> None:
        """Accept what is there, giving way to the connections under way every so often.

        At the limit the rest waits in the kernel's backlog; `_release` comes back here.
        """
        for _ in range(_ACCEPTS_A_TURN):
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
        if error.errno in _OUT_OF_RESOURCES:
            self._warn(f"unable to accept: {error.strerror}")
            self._reactor.after(_PAUSE, self._accept)
        else:
            self._reactor.soon(self._accept)

    def _admit(self, accepted: socket.socket, address: str, port: int) -> None:
        already = self._per_address[address]
        if already >= self._limits.per_address:
            accepted.close()
            if self._verbosity >= 2:
                log(PROGRAM, "info", f"reject {address}_{port} count {already}/{self._limits.per_address}")
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
            self._refuse(connection, Refused(PROGRAM, 111, f"unable to serve {connection.client}: {error.strerror}"))

    def _wait(self, connection: _Connection, waiting: Waiting) -> None:
        connection.waiting = waiting
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
        if done:
            self._stop_waiting(connection)
            self._advance(connection)

    def _stop_waiting(self, connection: _Connection) -> None:
        if connection.waiting is not None:
            self._reactor.forget(connection.waiting.fd)
            connection.waiting.close()
            connection.waiting = None

    def _start(self, connection: _Connection) -> None:
        """Start the program; a refusal to do so leaves the connection to be refused."""
        pid = spawn(connection.image)
        self._programs[pid] = connection
        connection.image.close()
        if self._verbosity >= 2:
            log(PROGRAM, "info", f"accept {connection.client} pid {pid} count {self._counts(connection)}")
            self._log_status()
        log_start(connection.image, pid)

    def _refuse(self, connection: _Connection, refused: Refused) -> None:
        log_refusal(refused)
        self._stop_waiting(connection)
        connection.image.close()
        self._release(connection, f"{connection.client} exitcode {refused.code}")

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
                else:
                    self._reaped(pid, status)

    def _release(self, connection: _Connection, ending: str) -> None:
        """Count a connection out, and accept again if the limit had been reached."""
        self._count -= 1
        self._per_address[connection.address] -= 1
        if self._verbosity >= 2:
            log(PROGRAM, "info", f"end {ending} count {self._counts(connection)}")
            self._log_status()
        if not self._per_address[connection.address]:
            del self._per_address[connection.address]
        if not self._accepting:
            self._accepting = True
            self._reactor.soon(self._accept)

    def _signal_programs(self, *numbers: int) -> None:
        for pid in self._programs:
            for number in numbers:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)

    def _stop_with(self, *numbers: int) -> None:
        self._signal_programs(*numbers)
        self._reactor.stop()

    # Log lines

    def _counts(self, connection: _Connection) -> str:
        return f"{self._per_address[connection.address]}/{self._limits.per_address}"

    def _log_status(self) -> None:
        log(PROGRAM, "info", f"status: {self._count}/{self._limits.total}")

    def _warn(self, message: str) -> None:
        if self._verbosity >= 1:
            log(PROGRAM, "warning", message)


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exitcode {os.WEXITSTATUS(status)}"


def announce(port: int, fd: int = 1) -> None:
    """Tell a service manager that connections are accepted: the port and a newline, then end of file."""
    with contextlib.suppress(OSError):
        os.write(fd, b"%d\n" % port)
    occupied = os.open("/dev/null", os.O_WRONLY)
    os.dup2(occupied, fd)
    os.close(occupied)
