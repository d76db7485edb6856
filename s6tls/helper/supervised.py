"""A server's helper: its child, which is replaced when it has ended or takes no requests."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from s6tls.accessrules.stamp import stamp_of
from s6tls.helper import request
from s6tls.helper.starting import start
from s6tls.posix.backoff import Backoff
from s6tls.posix.fdpass import DescriptorSender, control_pair, receive
from s6tls.posix.jail import LOOKUP_FILES, Level
from s6tls.posix.process import kill_child
from s6tls.posix.reactor import Reactor, Timer
from s6tls.posix.watchdog import PATIENCE_S, Watchdog
from s6tls.ucspi.hearsay import Hearsay
from s6tls.ucspi.log import Seldom, log
from s6tls.ucspi.minutely import Deaths

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

_PROGRAM = "s6tls"


class SupervisedHelper:
    """Sends requests to a helper, which is started for the first of them, and again if it has ended.

    While one that keeps ending rests, requests wait for the next, as do those that it has not taken.  Its jail knows
    files, not names: when one of those that lookups read is replaced, so is the helper, which ends what it has begun.
    """

    def __init__(self, reactor: Reactor, jail: Level) -> None:
        self._reactor, self._jail = reactor, jail
        self._stderr = Hearsay(reactor, _PROGRAM, "the lookup helper")
        self._stamps: tuple[Stamp | None, ...] = ()
        self._at_work: _AtWork | None = None
        self._backoff, self._rests_until = Backoff(), 0.0
        self._deaths, self._unable = Deaths(_PROGRAM, reactor.after), Seldom(_PROGRAM)

    def send(self, _kind: str, message: bytes, fds: list[int]) -> None:
        """Send a request; `fds` are the helper's own then.  Raises OSError."""
        stamps = tuple(map(_stamp, LOOKUP_FILES))
        if self._stamps != stamps:
            self._stamps = stamps
            if self._at_work is not None:
                self._start_over(self._at_work)
        if self._at_work is None:
            self._at_work = _AtWork(self._reactor, self._replace, self._jail, self._stderr.writing)
            self._start_after(self._rests_until - time.monotonic())
        self._at_work.send(message, fds)

    def reaped(self, pid: int, status: int) -> bool:
        """Take note that a child has ended; tell whether it was the helper."""
        at_work = self._at_work
        if at_work is None or at_work.pid != pid:
            return False
        self._deaths.add(f"lookup helper {pid}", status)
        self._rests_until = time.monotonic() + self._backoff.failed()
        self._start_over(at_work)
        return True

    def close(self) -> None:
        """Let the helper end."""
        if self._at_work is not None:
            self._at_work.close()
            self._at_work = None

    def _start_after(self, seconds: float) -> None:
        at_work = self._at_work
        if at_work is None:
            return
        if seconds > 0:
            at_work.timer = self._reactor.after(seconds, lambda: self._start_after(0))
            return
        try:
            at_work.start()
        except OSError as error:
            self._unable.warning(f"unable to start the lookup helper: {error.strerror}")
            self._start_after(self._backoff.failed())

    def _replace(self, at_work: _AtWork) -> None:
        """Kill a helper that takes no requests."""
        log(_PROGRAM, "warning", f"the lookup helper takes no requests for {PATIENCE_S:g} s: replacing it")
        kill_child(at_work.pid)
        self._start_over(at_work)

    def _start_over(self, at_work: _AtWork) -> None:
        """Give the requests that a helper has not taken to the next."""
        waiting = at_work.take_back()
        self.close()
        for message, fds in waiting:
            try:
                self.send("", message, fds)
            except OSError:  # whoever waits for the reply sees its pipe close
                for fd in fds:
                    os.close(fd)


def _stamp(path: str) -> Stamp | None:
    try:
        return stamp_of(os.stat(path))
    except OSError:
        return None


class _AtWork:
    """One helper, before and after its start: both ends of its control socket, its process id, and its watchdog."""

    def __init__(self, reactor: Reactor, stalled: Callable[[_AtWork], object], jail: Level, stderr: int) -> None:
        self._jail, self._stderr = jail, stderr
        ours, self._theirs = control_pair()
        ours.setblocking(False)
        self._sender = DescriptorSender(ours)
        self._sender.work_in(reactor, 0, self._flush)
        self._watchdog = Watchdog(reactor, self._sender, lambda: stalled(self), PATIENCE_S, self._sender.hear)
        self.pid = 0
        self.timer: Timer | None = None

    def start(self) -> None:
        """Start the process.  Raises OSError."""
        self.pid = start(self._theirs, request.KINDS, self._jail, self._stderr)
        self._watchdog.look()

    def send(self, message: bytes, fds: list[int]) -> None:
        """Send a request, now or when the socket takes it.  Raises OSError."""
        self._sender.send(message, fds)
        if self.pid:
            self._watchdog.look()

    def take_back(self) -> list[tuple[bytes, list[int]]]:
        """Return the requests that the helper has not taken."""
        back = []
        while taken := receive(self._theirs, request.LARGEST, request.MOST_DESCRIPTORS):
            back.append(taken)
        return back + [(message, list(fds)) for message, fds in self._sender.take_queue()]

    def close(self) -> None:
        """Let the helper end."""
        self._watchdog.stop()
        if self.timer is not None:
            self.timer.cancel()
        self._sender.close()
        self._theirs.close()

    def _flush(self) -> None:
        with contextlib.suppress(OSError):
            self._sender.flush()
