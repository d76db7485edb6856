"""What clients do wrong is told in few lines, and told even when the server ends first."""

from __future__ import annotations

import pytest

from s6tls.ucspi.failures import ClientFailures
from s6tls.ucspi.image import ClientFailure
from tests.support.clock import Clock


def fail(failures: ClientFailures, *reasons: str) -> None:
    for reason in reasons:
        failures.log(ClientFailure("s6-tlsd-io", 97, reason))


def test_one_line_tells_of_a_minute(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    failures = ClientFailures(clock.after, 1)
    fail(failures, "a", "b", "c")
    clock.pass_s(59)
    assert not capfd.readouterr().err
    clock.pass_s(1)
    assert capfd.readouterr().err == (
        "s6-tcpserverd: info: 3 clients failed within a minute, the last: s6-tlsd-io: c\n"
    )


def test_the_end_does_not_await_the_minute(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    failures = ClientFailures(clock.after, 1)
    fail(failures, "a")
    failures.log_rest()
    assert capfd.readouterr().err == "s6-tcpserverd: info: 1 client failed within a minute, the last: s6-tlsd-io: a\n"
    clock.pass_s(60)
    failures.log_rest()
    assert not capfd.readouterr().err


@pytest.mark.parametrize(("verbosity", "lines"), [(0, 0), (2, 2)])
def test_more_or_nothing_is_told_at_other_verbosities(
    verbosity: int, lines: int, capfd: pytest.CaptureFixture[str]
) -> None:
    failures = ClientFailures(Clock().after, verbosity)
    fail(failures, "a", "b")
    failures.log_rest()
    assert capfd.readouterr().err.count("\n") == lines
