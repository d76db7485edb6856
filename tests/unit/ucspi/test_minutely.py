"""One line a minute, whatever strangers do."""

from __future__ import annotations

import signal
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s6tls.ucspi import minutely
from s6tls.ucspi.log import Log
from s6tls.ucspi.minutely import Deaths, Minutely, Refusals
from tests.support.clock import Clock


@given(st.lists(st.floats(0, 100), max_size=30))
def test_what_is_asked_for_is_said_soon_and_not_often(pauses: list[float]) -> None:
    clock = Clock()
    asked: list[float] = []
    said: list[tuple[float, int]] = []

    def say() -> bool:
        if asked:
            said.append((clock.seconds, len(asked)))
            asked.clear()
            return True
        return False

    one = Minutely(clock.after, say)
    for pause in pauses:
        clock.pass_s(pause)
        asked.append(clock.seconds)
        one.ask()
        assert not asked or clock.seconds - said[-1][0] < 60
    clock.pass_s(60)
    assert sum(number for _, number in said) == len(pauses)
    assert all(later - earlier >= 59.999 for (earlier, _), (later, _) in pairwise(said))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 12), min_size=3), st.integers(1, 4))
def test_who_has_most_is_found_in_little_memory(
    capfd: pytest.CaptureFixture[str], numbers: list[int], room: int
) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minutely, "_MOST_NETWORKS", room)
        refusals = Refusals(Log("server", 1), clock.after, "over -C")
        for number in [99, *numbers]:
            refusals.add("first", str(number))
            assert len(refusals._by_network) <= room
    capfd.readouterr()
    clock.pass_s(60)
    told = capfd.readouterr().err
    assert told.startswith(f"server: info: rejected {len(numbers)} clients over -C, most of ")
    named, times = int(told.split()[-1]), Counter(numbers)
    assert times[named] >= max(times.values()) - len(numbers) / room


def test_silence_is_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    refusals = Refusals(Log("server", 0), Clock().after, "over -C")
    refusals.add("reject a", "a")
    assert not refusals.tell()
    assert capfd.readouterr().err == ""


def test_processes_that_die_by_signals_are_one_line_a_minute(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    deaths = Deaths("server", clock.after)
    deaths.add("engine 6", 96 << 8)
    assert capfd.readouterr().err == ""
    for pid in range(7, 11):
        deaths.add(f"engine {pid}", signal.SIGSEGV)
    assert capfd.readouterr().err == "server: warning: engine 7 was ended by SIGSEGV\n"
    clock.pass_s(60)
    others = "and so were 2 before it within a minute"
    assert capfd.readouterr().err == f"server: warning: engine 10 was ended by SIGSEGV, {others}\n"
    clock.pass_s(120)
    deaths.add("engine 11", signal.SIGKILL)
    assert capfd.readouterr().err == "server: warning: engine 11 was ended by SIGKILL\n"
