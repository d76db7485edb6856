"""Which pool gets a connection: there is one for each set of TLS parameters in use.

The files of the parameters are checked for each connection, so that a new
key or certificate serves the next client.  Sessions under the old one go on.

Who renews a key and a certificate replaces one file after the other.  A server that looks in between finds two that do
not belong together.  So the pool before stays as the predecessor of the new one until that is ready.  If it finds
such a pair, its clients are given back to the predecessor, which then serves until the files change again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from s6tls.posix import fresh
from s6tls.posix.backoff import Backoff
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.process import children, kill_child, kill_holders
from s6tls.posix.reactor import READABLE, Reactor
from s6tls.posix.watchdog import PATIENCE_S, Watchdog
from s6tls.tls.credentials import BAD_CONFIGURATION, BAD_HANDSHAKE, PROGRAM, CredentialPaths, Isolation
from s6tls.tls.ends import Descriptors, ToProgram
from s6tls.tls.engines import pool
from s6tls.tls.engines.reading import Digest, Reading, are_stable
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.log import death, form, log, log_exit
from s6tls.ucspi.minutely import Deaths
from s6tls.ucspi.status.files import Pool

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

_MOST_POOLS = 64
_LONGEST_LOAD_S = 10.0
_LAST_S = 60.0
"""How long a keeper may take to end that gets no more connections: longer than those it still has would wait for it."""
_FEW_FILES = 32
"""So many are looked at for each connection, however long a busy machine makes it take."""
_QUICK_LOOK_S = 0.001
_RESTS = 20
"""A look at more may take longer than the rest of a connection: the next one then waits so many times as long."""
_HANGS_S = 30.0
"""How long an engine may take to end whose client has been given up: a busy machine keeps none up for so long."""


@dataclass
class _Entry:
    parameters: TlsParameters
    pool: pool.EnginePool
    watchdog: Watchdog
    stamps: tuple[Stamp, ...]
    stable: bool
    credentials: Digest
    predecessor: _Entry | None = None
    backoff: Backoff = field(default_factory=Backoff)
    failed: bool = False
    dead: bool = False
    retired: bool = False
    closed: bool = False
    looks_again: float = 0.0


class EnginePools:
    """Gives connections to engines in processes of their own (see `s6tls.tls.engines.pool`)."""

    gives_accounts = True

    def __init__(self, reactor: Reactor, isolation: Isolation) -> None:
        self._reactor, self._isolation = reactor, isolation
        self._entries: dict[TlsParameters, _Entry] = {}
        self._keepers: dict[int, pool.EnginePool] = {}
        self._deaths = Deaths(PROGRAM, reactor.after)

    def prepare(self, parameters: TlsParameters) -> None:
        """Have a pool ready, if that takes no longer than usual.

        Raises StageExit when the files cannot be read, or the pool has ended, which has logged why.
        """
        entry = self._entry(parameters)
        started = entry.pool
        if started.pid in self._keepers:
            started.await_ready(_LONGEST_LOAD_S)
            if entry.predecessor is None:
                self._see_that_it_lives(started)

    def _see_that_it_lives(self, started: pool.EnginePool) -> None:
        pid, status = (0, 0) if started.is_ready() else os.waitpid(started.pid, os.WNOHANG)
        if pid:
            self.reaped(pid, status)
            code = ExitCode.SYSTEM if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            raise StageExit(PROGRAM, code, death(f"pool {pid} of TLS engines", status))

    def examine(self) -> None:
        """Have it logged what the files of all parameters in use hold now, or what is wrong with them."""
        for parameters, entry in self._entries.items():
            try:
                credentials = replace(parameters.paths.read(), renewed=not entry.failed)
                fresh.start("s6tls.tls.engines.examination", (parameters, credentials, form()))
            except StageExit as refused:
                log_exit(refused)
            except OSError as error:
                log(PROGRAM, "warning", f"unable to examine keys and certificates: {error.strerror}")

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
        if not entry.dead:
            entry.watchdog.look()
        return lambda: BAD_HANDSHAKE

    def expect_end(self, notified: int) -> None:
        """Kill the engine that has the other end of a pipe if it is still there in a while.  Raises OSError."""
        fd = os.dup(notified)

        def let_go(_: int = 0) -> None:
            timer.cancel()
            self._reactor.forget(fd)
            os.close(fd)

        def kill() -> None:
            kill_holders(fd)
            let_go()

        timer = self._reactor.after(_HANGS_S, kill)
        self._reactor.watch(fd, 0, let_go)  # when nobody has the other end any more

    def reaped(self, pid: int, status: int) -> bool:
        """Take note that a child has ended; tell whether it was a pool.

        A pool that could not use its files is remembered until they change, so that a broken
        key costs no fork for each client.  One that a signal has ended is started again, after a rest, with the
        connections that nobody has taken, and any other when it is needed.
        """
        was_keeper = self._keepers.pop(pid, None) is not None
        for entry in list(self._entries.values()):
            last = entry.predecessor
            if pid not in (entry.pool.pid, last and last.pool.pid):
                continue
            self._deaths.add(f"pool {pid} of TLS engines", status)
            if last is not None and last.pool.pid == pid:
                entry.predecessor = None
                self._hand_over(last, entry)
            else:
                self._keeper_ended(entry, status)
        return was_keeper

    def _keeper_ended(self, entry: _Entry, status: int) -> None:
        if os.WIFSIGNALED(status):
            entry.dead = True
            entry.watchdog.stop()
            self._reactor.after(entry.backoff.failed(), lambda: self._start_over(entry))
            return
        code = os.WEXITSTATUS(status)
        if code == ExitCode.KEYPAIR_MISMATCH and entry.predecessor is not None:
            self._entries[entry.parameters] = self._fall_back(entry, entry.predecessor)
            return
        if code in (ExitCode.KEYPAIR_MISMATCH, BAD_CONFIGURATION):
            entry.failed = True
        else:
            del self._entries[entry.parameters]
        self._close(entry)

    def told(self) -> list[Pool]:
        """Return what there is, for those who watch."""
        return [_told(entry) for entry in self._entries.values()]

    def close(self) -> None:
        """Give no pool any more connections; each ends when those it has are done."""
        for parameters in list(self._entries):
            self._drop(parameters)

    def _entry(self, parameters: TlsParameters) -> _Entry:
        """Return who serves these parameters, as their files are now.  Raises StageExit when they cannot be read."""
        entry = self._entries.get(parameters)
        if entry is None or time.monotonic() >= entry.looks_again:
            entry = self._look(parameters, entry)
        if next(reversed(self._entries.values()), None) is not entry:
            self._entries.pop(parameters, None)
            self._entries[parameters] = entry  # the last one is the one that was used last
        return entry

    def _look(self, parameters: TlsParameters, entry: _Entry | None) -> _Entry:
        """See whether files have changed.  Raises StageExit when they cannot be read."""
        began = time.thread_time()
        stamps = parameters.paths.stamps()
        took = time.thread_time() - began
        if entry is None:
            entry = self._start(parameters, Reading.of(parameters.paths, stamps))
            if len(self._entries) >= _MOST_POOLS:
                self._drop(next(iter(self._entries)))
        elif not (entry.dead or _is_current(entry, parameters.paths, stamps)):
            entry = self._renew(entry, stamps)
        takes_long = len(stamps) > _FEW_FILES and took > _QUICK_LOOK_S
        entry.looks_again = time.monotonic() + _RESTS * took if takes_long else 0.0
        return entry

    def _renew(self, entry: _Entry, stamps: tuple[Stamp, ...]) -> _Entry:
        """Start a pool in place of one whose files have changed.  Raises StageExit when they cannot be read."""
        last = entry if entry.predecessor is None else entry.predecessor
        try:
            read = Reading.of(entry.parameters.paths, stamps)
        except StageExit:
            self._drop(entry.parameters)
            raise
        if last.failed or last.credentials.judges != Digest.of(read.credentials).judges:
            self._drop(entry.parameters)
            return self._start(entry.parameters, read)
        read = read._replace(credentials=replace(read.credentials, renewed=True))
        successor = self._start(entry.parameters, read)
        if last is not entry:
            entry.predecessor = None
            self._hand_over(entry, successor)
        successor.predecessor = last
        return successor

    def _fall_back(self, entry: _Entry, last: _Entry) -> _Entry:
        """Go on with the pool before: what it has read is taken for what the files hold, until they change."""
        entry.predecessor = None
        last.stamps, last.stable, last.credentials = entry.stamps, entry.stable, entry.credentials
        self._hand_over(entry, last)
        return last

    def _start(self, parameters: TlsParameters, read: Reading) -> _Entry:
        started = pool.start(parameters, read.credentials, self._isolation)
        self._keepers[started.pid] = started
        watchdog = Watchdog(self._reactor, started, lambda: self._replace(entry), PATIENCE_S)
        entry = _Entry(parameters, started, watchdog, read.stamps, read.stable, Digest.of(read.credentials))
        started.work_in(self._reactor, READABLE, lambda: self._go_on(entry))
        return entry

    def _go_on(self, entry: _Entry) -> None:
        """Let go of the predecessor of a pool that is ready, and send what waits."""
        if entry.predecessor is not None and entry.pool.is_ready():
            self._retire_predecessor(entry)
        self._flush(entry)

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
        current = self._entries.get(entry.parameters)
        if current is entry:
            del self._entries[entry.parameters]
            if entry.predecessor is not None:  # which the next one needs as well
                self._entries[entry.parameters], entry.predecessor = entry.predecessor, None
        elif current is not None and current.predecessor is entry:
            current.predecessor = None
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
        self._send(waiting, other)

    def _hand_over(self, entry: _Entry, other: _Entry) -> None:
        """Give the connections that a pool has not taken to another, and let go of it."""
        waiting = entry.pool.take_back()
        self._close(entry)
        self._send(waiting, other)

    def _send(self, waiting: list[Descriptors], other: _Entry) -> None:
        for fds in waiting:
            if ToProgram(fds.to_program).reader_is_gone():  # the server has given it up meanwhile
                fds.close()
                continue
            try:
                other.pool.send_connection(fds)
            except OSError:
                fds.close()
        if not other.dead:
            other.watchdog.look()

    def _drop(self, parameters: TlsParameters) -> None:
        entry = self._entries.pop(parameters, None)
        if entry is not None:
            self._retire(entry)

    def _retire(self, entry: _Entry) -> None:
        """Give a pool, and its predecessor, no more connections than those that wait for it already."""
        self._retire_predecessor(entry)
        if not entry.closed:
            entry.retired = True
            self._flush(entry)

    def _retire_predecessor(self, entry: _Entry) -> None:
        if entry.predecessor is not None:
            self._retire(entry.predecessor)
            entry.predecessor = None

    def _close(self, entry: _Entry) -> None:
        self._retire_predecessor(entry)
        if not entry.closed:
            entry.closed = True
            entry.watchdog.stop()
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


def _told(entry: _Entry) -> Pool:
    is_ready = entry.closed or entry.pool.is_ready()
    state = "failed" if entry.failed else "dead" if entry.dead else "ready" if is_ready else "starting"
    files = entry.parameters.paths.files(entry.stamps, entry.pool.validities())
    return Pool(entry.pool.pid, state, entry.pool.given, files)


def _is_current(entry: _Entry, paths: CredentialPaths, stamps: tuple[Stamp, ...]) -> bool:
    """Tell whether an entry's files are still what it read.

    Those that are not stable are read again until they are.
    """
    if entry.stamps != stamps:
        return False
    if not entry.stable:
        stable = are_stable(stamps)
        if Digest.of(paths.read()) != entry.credentials:
            return False
        entry.stable = stable
    return True
