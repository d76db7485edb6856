"""What keeps failing rests for longer and longer, but not for ever."""

from __future__ import annotations

import pytest

from s6tls.posix.backoff import Backoff
from tests.support.clock import Clock


def test_rests_grow_to_a_bound_and_are_short_again_after_a_calm_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.seconds)
    one = Backoff()
    assert [one.failed() for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 4.0, 4.0]
    clock.pass_s(59)
    assert one.failed() == 4.0
    clock.pass_s(60)
    assert one.failed() == 0.2
