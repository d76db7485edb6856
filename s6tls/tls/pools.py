"""Which pool gets a connection: there is one for each set of TLS parameters in use.

The files of the parameters are checked for each connection, so that a new
key or certificate serves the next client.  Sessions under the old one go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s6tls.accessrules.stamp import is_stable
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.reactor import WRITABLE, Reactor
from s6tls.posix.watchdog import PATIENCE_S, Watchdog
from s6tls.tls import pool
from s6tls.tls.credentials import BAD_CONFIGURATION, BAD_HANDSHAKE, PROGRAM, CredentialPaths, Isolation, TlsParameters
from s6tls.tls.ends import Descriptors, ToProgram
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.log import log, log_death

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

_MOST_POOLS = 64


@dataclass
class _Entry:
    parameters: TlsParameters
    pool: pool.EnginePool
    watchdog: Watchdog
    stamps: tuple[Stamp, ...]
    contents: int
    stable: bool
    failed: bool = False
    retired: bool = False
    closed: bool = False


class EnginePools:
    """Gives connections to engines in processes of their own (see `s6tls.tls.pool`)."""

    gives_accounts = True

    def __init__(self, reactor: Reactor, isolation: Isolation) -> None:
        self._reactor, self._isolation = reactor, isolation
        self._entries: dict[TlsParameters, _Entry] = {}

    def prepare(self, parameters: TlsParameters) -> None:
        """Have a pool ready.  Raises StageExit when the files cannot be read."""
        self._entry(parameters)

    def submit(self, parameters: TlsParameters, fds: Descriptors, peer: str) -> Callable[[], int]:
        """Send a connection to the pool of its parameters.

        Raises StageExit when the files cannot be read or have been found to be no good, or the
        pool has just ended (`reaped` will say why); the descriptors are then still the caller's.
        """
        entry = self._entry(parameters)
        if entry.failed:
            raise StageExit(PROGRAM, BAD_CONFIGURATION, "unable to use the key or certificate: see above")
        try:
            entry.pool.send_connection(fds if fds.account is not None else fds._replace(account=fds.notify))
        except OSError as error:
            raise StageExit(PROGRAM, ExitCode.SYSTEM, f"unable to reach the TLS engine: {error.strerror}") from error
        entry.watchdog.look()
        return lambda: BAD_HANDSHAKE

    def reaped(self, pid: int, status: int) -> bool:
        """Take note that a child has ended; tell whether it was a pool.

        A pool that could not use its files is remembered until they change, so that a broken
        key costs no fork for each client.  Any other is started again when it is needed.
        """
        for parameters, entry in self._entries.items():
            if entry.pool.pid == pid:
                log_death(PROGRAM, f"pool {pid} of TLS engines", status)
                if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BAD_CONFIGURATION:
                    entry.failed = True
                    self._close(entry)
                else:
                    del self._entries[parameters]
                    self._close(entry)
                return True
        return False

    def close(self) -> None:
        """Give no pool any more connections; each ends when those it has are done."""
        for parameters in list(self._entries):
            self._drop(parameters)

    def _entry(self, parameters: TlsParameters) -> _Entry:
        stamps = parameters.paths.stamps()
        entry = self._entries.pop(parameters, None)
        if entry is not None and not _is_current(entry, parameters.paths, stamps):
            self._retire(entry)
            entry = None
        if entry is None:
            entry = self._start(parameters, stamps)
            if len(self._entries) >= _MOST_POOLS:
                self._drop(next(iter(self._entries)))
        self._entries[parameters] = entry
        return entry

    def _start(self, parameters: TlsParameters, stamps: tuple[Stamp, ...]) -> _Entry:
        stable = _are_stable(stamps)
        credentials = parameters.paths.read()
        started = pool.start(parameters, credentials, self._isolation)
        watchdog = Watchdog(self._reactor, started, lambda: self._replace(entry), PATIENCE_S)
        entry = _Entry(parameters, started, watchdog, stamps, hash(credentials), stable)
        self._reactor.watch(entry.pool.control.fileno(), WRITABLE, lambda _: self._flush(entry))
        return entry

    def _flush(self, entry: _Entry) -> None:
        """Send what waits.  A pool that is gone is found in `reaped`."""
        try:
            all_sent = entry.pool.flush()
        except OSError:
            all_sent = True
        if all_sent and entry.retired:
            self._close(entry)

    def _replace(self, entry: _Entry) -> None:
        """Give the connections that a pool does not take to another, and end its keeper; its sessions go on."""
        seconds = entry.watchdog.patience_s
        log(PROGRAM, "warning", f"pool {entry.pool.pid} of TLS engines takes nothing for {seconds:g} s: replacing it")
        waiting = entry.pool.take_back()
        if self._entries.get(entry.parameters) is entry:
            del self._entries[entry.parameters]
        self._close(entry)
        with contextlib.suppress(ProcessLookupError):
            os.kill(entry.pool.pid, signal.SIGKILL)
        try:
            other = self._entry(entry.parameters)
        except (StageExit, OSError) as error:
            log(PROGRAM, "warning", f"unable to replace a pool of TLS engines: {error}")
            for fds in waiting:
                fds.close()
            return
        other.watchdog.patience_s = entry.watchdog.next_patience_s
        for fds in waiting:
            if ToProgram(fds.to_program).reader_is_gone():  # the server has given it up meanwhile
                fds.close()
                continue
            try:
                other.pool.send_connection(fds)
            except OSError:
                fds.close()
        other.watchdog.look()

    def _drop(self, parameters: TlsParameters) -> None:
        entry = self._entries.pop(parameters, None)
        if entry is not None:
            self._retire(entry)

    def _retire(self, entry: _Entry) -> None:
        """Give a pool no more connections than those that wait for it already."""
        if not entry.closed:
            entry.retired = True
            self._flush(entry)

    def _close(self, entry: _Entry) -> None:
        if not entry.closed:
            entry.closed = True
            entry.watchdog.stop()
            self._reactor.forget(entry.pool.control.fileno())
            entry.pool.close()


def _is_current(entry: _Entry, paths: CredentialPaths, stamps: tuple[Stamp, ...]) -> bool:
    """Tell whether an entry's files are still what it read.

    Those that are not stable are read again until they are.
    """
    if entry.stamps != stamps:
        return False
    if not entry.stable:
        stable = _are_stable(stamps)
        if hash(paths.read()) != entry.contents:
            return False
        entry.stable = stable
    return True


def _are_stable(stamps: tuple[Stamp, ...]) -> bool:
    now_ns = time.time_ns()
    return all(is_stable(stamp, now_ns) for stamp in stamps)
