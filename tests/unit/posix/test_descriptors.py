"""Limits of descriptors, as the kernel sees them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from s6tls.posix.descriptors import check_room, raise_soft_limit, soft_limit


@pytest.fixture(autouse=True)
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_becomes_the_hard_one(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    assert raise_soft_limit() == (200, hard)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_limit_ends_with_its_block(limits: tuple[int, int]) -> None:
    with soft_limit(100):
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (100, limits[1])
    with soft_limit(None):
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


def test_room_is_what_can_be_opened(limits: tuple[int, int]) -> None:
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, limits[1]))
    taken = {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}
    free = highest + 4 - len(taken)
    for _ in range(2):
        check_room(free)
    with pytest.raises(OSError, match="Too many open files"):
        check_room(free + 1)
    check_room(free)
