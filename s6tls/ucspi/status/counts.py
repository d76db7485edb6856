"""What a server counts for those who watch it: numbers, and no more, since each client pays for them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from s6tls.accessrules.text import printable_ascii
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.image import ClientFailure, Image, OpenSession, StageExit
from s6tls.ucspi.log import fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
WAITS: Mapping[str, str] = {"s6-tcpserver-access": "lookup", "proxy-server": "header", "s6-tlsd": "handshake"}
"""What a connection waits for in each stage that may have to wait."""
OTHER = "other"
_ACCESS, _LIMITS, _TLS = "s6-tcpserver-access", "s6-connlimit", ("s6-tlsd-io", "s6-tlsd")
_MOST_REASONS, _LONGEST_REASON = 64, 100
_FASTEST = 2**34
"""Bytes that no session moves in a second, whatever its engine says."""


class Histogram:
    """How long something took: how often it was within each bound, and how long it was in all."""

    __slots__ = ("sum_s", "within")

    def __init__(self) -> None:
        self.within = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one that took so long."""
        self.within[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class Counts:
    """What has happened to connections since the start.

    Reasons come from engines, which strangers may have taken over: there are few of them, and they are short.
    """

    def __init__(self) -> None:
        self.started = self.sessions_ended = self.received = self.sent = self.resumed = 0
        self.denied_by_rule = self.denied_by_none = self.over_rule_limit = self.over_rule_rate = 0
        self.failures: Counter[tuple[str, int]] = Counter()
        self.handshake_failures: Counter[str] = Counter()
        self.session_failures: Counter[str] = Counter()
        self.latencies = {wait: Histogram() for wait in WAITS.values()}

    def served(self) -> None:
        """Count a connection whose program has been started."""
        self.started += 1

    def waited(self, image: Image, seconds: float) -> None:
        """Count a connection that has had what it waited for in its last stage."""
        wait = WAITS.get(image.link)
        if wait is not None:
            self.latencies[wait].add(seconds)
            if wait == "handshake" and b"SSL_SESSION_REUSED" in image.env:
                self.resumed += 1

    def refused(self, refused: StageExit, rule: str) -> None:
        """Count a connection that a stage has ended; `rule` names the rule that decided about it."""
        if refused.code == ExitCode.DENIED and refused.program == _ACCESS:
            if rule == "none":
                self.denied_by_none += 1
            else:
                self.denied_by_rule += 1
        elif refused.code == ExitCode.DENIED and refused.program == _LIMITS:
            if isinstance(refused, ClientFailure):
                self.over_rule_limit += 1
            else:
                self.over_rule_rate += 1
        else:
            self.failed(refused)

    def failed(self, failure: StageExit) -> None:
        """Count what a stage or a session has failed in."""
        self.failures[failure.program, int(failure.code)] += 1
        if failure.program in _TLS and failure.code in (ExitCode.BAD_HANDSHAKE, ExitCode.BROKEN_SESSION):
            by_reason = self.handshake_failures if failure.code == ExitCode.BAD_HANDSHAKE else self.session_failures
            reason = printable_ascii(str(fields_of(failure.message).get("reason", OTHER))[:_LONGEST_REASON])
            by_reason[reason if reason in by_reason or len(by_reason) < _MOST_REASONS else OTHER] += 1

    def ended(self, session: OpenSession, seconds: float) -> None:
        """Count a session that has lasted so long, and the bytes that its engine claims, as far as they can be true."""
        received, sent = session.traffic
        most = int(seconds * _FASTEST) + _FASTEST
        self.sessions_ended += 1
        self.received += min(received, most)
        self.sent += min(sent, most)


class Uncounted(Counts):
    """Where nobody watches: nothing is counted, and nobody pays for it."""

    def served(self) -> None:
        """See `Counts`."""

    def waited(self, image: Image, seconds: float) -> None:
        """See `Counts`."""

    def refused(self, refused: StageExit, rule: str) -> None:
        """See `Counts`."""

    def failed(self, failure: StageExit) -> None:
        """See `Counts`."""

    def ended(self, session: OpenSession, seconds: float) -> None:
        """See `Counts`."""
