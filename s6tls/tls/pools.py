"""Which host carries a connection: one for each set of TLS parameters in use.

The files of the parameters are checked for each connection, so that a new
key or certificate serves the next client.  Sessions under the old one go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s6tls.accessrules.stamp import is_stable
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.reactor import WRITABLE, Reactor
from s6tls.tls import pool
from s6tls.tls.credentials import BAD_CONFIGURATION, BAD_HANDSHAKE, PROGRAM, Options, Sources
from s6tls.tls.ends import Descriptors
from s6tls.ucspi.image import StageExit

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

_MOST_HOSTS = 64


@dataclass
class _Entry:
    host: pool.Host
    stamps: tuple[Stamp, ...]
    contents: int
    stable: bool
    failed: bool = False
    retired: bool = False
    closed: bool = False


class Hosts:
    """Carries connections by processes of their own (see `s6tls.tls.pool`)."""

    def __init__(self, reactor: Reactor, isolation: pool.Isolation) -> None:
        self._reactor, self._isolation = reactor, isolation
        self._entries: dict[tuple[Sources, Options], _Entry] = {}

    def prepare(self, sources: Sources, options: Options) -> None:
        """Have a host ready.  Raises StageExit when the files cannot be read."""
        self._entry(sources, options)

    def carry(self, sources: Sources, options: Options, fds: Descriptors, peer: str) -> Callable[[], int]:
        """Hand a connection to the host of its parameters.

        Raises StageExit when the files cannot be read or have been found to be no good, or the
        host has just ended (`reaped` will say why); the descriptors are then still the caller's.
        """
        entry = self._entry(sources, options)
        if entry.failed:
            raise StageExit(PROGRAM, BAD_CONFIGURATION, "unable to use the key or certificate: see above")
        try:
            entry.host.carry(fds, peer)
        except OSError as error:
            raise StageExit(PROGRAM, ExitCode.SYSTEM, f"unable to reach the TLS engine: {error.strerror}") from error
        return lambda: BAD_HANDSHAKE

    def reaped(self, pid: int, status: int) -> bool:
        """Take note that a child has ended; tell whether it was a host.

        A host that could not use its files is remembered until they change, so that a broken
        key costs no fork for each client.  Any other is started again when it is needed.
        """
        for key, entry in self._entries.items():
            if entry.host.pid == pid:
                if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BAD_CONFIGURATION:
                    entry.failed = True
                    self._close(entry)
                else:
                    del self._entries[key]
                    self._close(entry)
                return True
        return False

    def close(self) -> None:
        """Give no host any more connections; each ends when those it has are done."""
        for key in list(self._entries):
            self._drop(key)

    def _entry(self, sources: Sources, options: Options) -> _Entry:
        key = (sources, options)
        stamps = sources.stamps()
        entry = self._entries.pop(key, None)
        if entry is not None and not _is_current(entry, sources, stamps):
            self._retire(entry)
            entry = None
        if entry is None:
            entry = self._start(sources, options, stamps)
            if len(self._entries) >= _MOST_HOSTS:
                self._drop(next(iter(self._entries)))
        self._entries[key] = entry
        return entry

    def _start(self, sources: Sources, options: Options, stamps: tuple[Stamp, ...]) -> _Entry:
        stable = _are_stable(stamps)
        material = sources.read()
        started = pool.start(material, options, sources.identity, self._isolation)
        entry = _Entry(started, stamps, hash(material), stable)
        self._reactor.watch(entry.host.control.fileno(), WRITABLE, lambda _: self._flush(entry))
        return entry

    def _flush(self, entry: _Entry) -> None:
        """Hand over what waits.  A host that is gone is found in `reaped`."""
        try:
            all_sent = entry.host.flush()
        except OSError:
            all_sent = True
        if all_sent and entry.retired:
            self._close(entry)

    def _drop(self, key: tuple[Sources, Options]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._retire(entry)

    def _retire(self, entry: _Entry) -> None:
        """Give a host no more connections than those that wait for it already."""
        if not entry.closed:
            entry.retired = True
            self._flush(entry)

    def _close(self, entry: _Entry) -> None:
        if not entry.closed:
            entry.closed = True
            self._reactor.forget(entry.host.control.fileno())
            entry.host.close()


def _is_current(entry: _Entry, sources: Sources, stamps: tuple[Stamp, ...]) -> bool:
    """Tell whether an entry's files are still what it read."""
    if entry.stamps != stamps:
        return False
    if not entry.stable:
        stable = _are_stable(stamps)
        if hash(sources.read()) != entry.contents:
            return False
        entry.stable = stable
    return True


def _are_stable(stamps: tuple[Stamp, ...]) -> bool:
    now_ns = time.time_ns()
    return all(is_stable(stamp, now_ns) for stamp in stamps)
