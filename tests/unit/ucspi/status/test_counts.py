"""What is counted, and how much an engine that lies can make of it."""

from __future__ import annotations

import pytest

from s6tls.ucspi.image import ClientFailure, Image, StageExit
from s6tls.ucspi.log import Told
from s6tls.ucspi.status.counts import BOUNDS_S, Counts, Histogram


class Session:
    """A session that is over."""

    fd, silence_s, heard, failure = 0, 0.0, 0, None

    def __init__(self, received: int, sent: int) -> None:
        self.traffic = received, sent

    def resume(self) -> bool:
        return True

    def told(self) -> Told:
        return Told("")

    def abandon(self) -> None: ...

    def close(self) -> None: ...


def failed(reason: str, code: int = 97) -> ClientFailure:
    return ClientFailure("s6-tlsd-io", code, Told("unable: {reason}", reason=reason))


def test_a_histogram_counts_what_is_within_each_bound() -> None:
    histogram = Histogram()
    for seconds in (0.0, BOUNDS_S[0], 0.0011, 3600):
        histogram.add(seconds)
    assert histogram.within == [2, 1, *[0] * (len(BOUNDS_S) - 2), 1]
    assert histogram.sum_s == pytest.approx(3600.0021)


def test_waits_are_counted_by_what_for() -> None:
    counts = Counts()
    for link, env in (("s6-tlsd", {}), ("s6-tlsd", {b"SSL_SESSION_REUSED": b"1"}), ("s6-tcpserver-access", {})):
        image = Image(env, [])
        image.link = link
        counts.waited(image, 0.1)
    assert {wait: sum(found.within) for wait, found in counts.latencies.items()} == {
        "lookup": 1,
        "header": 0,
        "handshake": 2,
    }
    assert counts.resumed == 1


@pytest.mark.parametrize(
    ("refused", "rule", "counted"),
    [
        (StageExit("s6-tcpserver-access", 1), "ip4/0.0.0.0_0", "denied_by_rule"),
        (StageExit("s6-tcpserver-access", 1), "none", "denied_by_none"),
        (StageExit("s6-connlimit", 1), "", "over_rule_rate"),
        (ClientFailure("s6-connlimit", 1, "limited"), "", "over_rule_limit"),
    ],
)
def test_who_is_turned_away_is_counted_by_why(refused: StageExit, rule: str, counted: str) -> None:
    counts = Counts()
    counts.refused(refused, rule)
    assert {name for name, value in vars(counts).items() if value == 1} == {counted}
    assert not counts.failures


def test_failures_are_counted_by_program_and_exit_code_those_of_tls_by_reason() -> None:
    counts = Counts()
    for failure in (failed("http request"), failed("http request"), failed("bad record", 98)):
        counts.refused(failure, "")
    counts.refused(StageExit("s6-tlsd", 97), "")
    counts.refused(StageExit("prog", 127, "unable to exec"), "")
    assert counts.failures == {("s6-tlsd-io", 97): 2, ("s6-tlsd-io", 98): 1, ("s6-tlsd", 97): 1, ("prog", 127): 1}
    assert counts.handshake_failures == {"http request": 2, "other": 1}
    assert counts.session_failures == {"bad record": 1}


def test_an_engine_that_lies_makes_few_short_reasons_and_no_more_bytes_than_there_was_time_for() -> None:
    counts = Counts()
    for number in range(1000):
        counts.failed(failed(f"\x1b[2J{number}" * 1000))
    reasons = counts.handshake_failures
    assert len(reasons) <= 65 and reasons["other"] > 900
    assert all(reason.isprintable() and len(reason) <= 400 for reason in reasons)
    counts.ended(Session(5, 7), 0.1)
    assert (counts.received, counts.sent) == (5, 7)
    counts.ended(Session(10**20 - 1, 10**20 - 1), 1.0)
    assert counts.received < 10**11 and counts.sent < 10**11
