"""What processes that strangers may have taken over say on their standard error: heard seldom, and marked as theirs.

Standard error is the log, and who holds it can write anything there.  So an engine's is a pipe to the process that
forked it.  That logs the first line of what comes, at most once a minute, and drops the rest.
"""

from __future__ import annotations

import contextlib
import os
import re

from s6tls.accessrules.text import shown
from s6tls.posix.reactor import READABLE, Reactor
from s6tls.ucspi.log import log

_REST_S = 60.0
_ALL = 2**16
"""No pipe of ours holds more."""
_LONGEST = 400
_MARK = re.compile(rb"[a-z0-9-]+: [a-z]+: ")
"""How our own lines begin."""


class Hearsay:
    """A pipe for `who`'s standard error; what comes is logged as by `program`."""

    def __init__(self, reactor: Reactor, program: str, who: str) -> None:
        self._reactor, self._program, self._who = reactor, program, who
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._rests = False
        reactor.watch(self._reading, READABLE, self._heard)

    def _heard(self, _: int = 0) -> None:
        if self._rests:
            return
        with contextlib.suppress(BlockingIOError):
            said = os.read(self._reading, _ALL)
            line = _MARK.sub(b"", said.partition(b"\n")[0])[:_LONGEST]
            log(self._program, "warning", f"{self._who} says: {shown(line)}")
            self._rests = True
            self._reactor.after(_REST_S, self._wake)

    def _wake(self) -> None:
        """Forget what has come meanwhile."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, _ALL)
        self._rests = False
