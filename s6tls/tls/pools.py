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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from s6tls.accessrules.stamp import is_stable
from s6tls.posix.backoff import Backoff
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.process import children, kill_child
from s6tls.posix.reactor import WRITABLE, Reactor
from s6tls.posix.watchdog import PATIENCE_S, Watchdog
from s6tls.tls import pool
from s6tls.tls.credentials import BAD_CONFIGURATION, BAD_HANDSHAKE, PROGRAM, CredentialPaths, TlsParameters
from s6tls.tls.ends import Descriptors, ToProgram
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.log import log
from s6tls.ucspi.minutely import Deaths

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

_MOST_POOLS = 64
_LAST_S = 60.0
"""How long a keeper may take to end that gets no more connections: longer than those it still has would wait for it."""


@dataclass
class _Entry:
    parameters: TlsParameters
    pool: pool.EnginePool
    watchdog: Watchdog
    stamps: tuple[Stamp, ...]
    contents: int
    stable: bool
    backoff: Backoff = field(default_factory=Backoff)
    failed: bool = False
    dead: bool = False
    retired: bool = False
    closed: bool = False


class EnginePools:
    """Gives connections to engines in processes of their own (see `s6tls.tls.pool`)."""

    gives_accounts = True

    def __init__(self, reactor: Reactor, isolation: pool.Isolation) -> None:
        self._reactor, self._isolation = reactor, isolation
        self._entries: dict[TlsParameters, _Entry] = {}
        self._keepers: dict[int, pool.EnginePool] = {}
        self._deaths = Deaths(PROGRAM, reactor.after)

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
            entry.pool.send_connection(fds if fds.account is not None else replace(fds, account=fds.notify))
        except OSError as error:
            raise StageExit(PROGRAM, ExitCode.SYSTEM, f"unable to reach the TLS engine: {error.strerror}") from error
        if not entry.dead:
            entry.watchdog.look()
        return lambda: BAD_HANDSHAKE

    def reaped(self, pid: int, status: int) -> bool:
        """Take note that a child has ended; tell whether it was a pool.

        A pool that could not use its files is remembered until they change, so that a broken
        key costs no fork for each client.  One that a signal has ended is started again, after a rest, with the
        connections that nobody has taken, and any other when it is needed.
        """
        was_keeper = self._keepers.pop(pid, None) is not None
        entry = next((entry for entry in self._entries.values() if entry.pool.pid == pid), None)
        if entry is not None:
            self._deaths.add(f"pool {pid} of TLS engines", status)
            self._keeper_ended(entry, status)
        return was_keeper

    def _keeper_ended(self, entry: _Entry, status: int) -> None:
        if os.WIFSIGNALED(status):
            entry.dead = True
            entry.watchdog.stop()
            self._reactor.after(entry.backoff.failed(), lambda: self._start_over(entry))
            return
        if os.WEXITSTATUS(status) == BAD_CONFIGURATION:
            entry.failed = True
        else:
            del self._entries[entry.parameters]
        self._close(entry)

    def close(self) -> None:
        """Give no pool any more connections; each ends when those it has are done."""
        for parameters in list(self._entries):
            self._drop(parameters)

    def _entry(self, parameters: TlsParameters) -> _Entry:
        stamps = parameters.paths.stamps()
        entry = self._entries.pop(parameters, None)
        if entry is not None and not entry.dead and not _is_current(entry, parameters.paths, stamps):
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
        self._keepers[started.pid] = started
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
        self._start_over(entry)
        self._end_keeper(entry.pool)

    def _start_over(self, entry: _Entry) -> None:
        """Give the connections that a pool has not taken to another."""
        if entry.closed:
            return
        waiting = entry.pool.take_back()
        if self._entries.get(entry.parameters) is entry:
            del self._entries[entry.parameters]
        self._close(entry)
        try:
            other = self._entry(entry.parameters)
        except (StageExit, OSError) as error:
            log(PROGRAM, "warning", f"unable to replace a pool of TLS engines: {error}")
            for fds in waiting:
                fds.close()
            return
        other.backoff = entry.backoff
        if not entry.dead:
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
            self._reactor.after(_LAST_S, lambda: self._end_keeper(entry.pool))

    def _end_keeper(self, ended: pool.EnginePool) -> None:
        """Kill a keeper that has not ended, which holds no session, and let stopped children of it go on."""
        if self._keepers.get(ended.pid) is ended:
            engines = children(ended.pid)
            kill_child(ended.pid)
            for engine in engines:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(engine, signal.SIGCONT)


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
