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
    lowest = os.dup(2)
    os.close(lowest)
    for limit in (lowest + 3, limits[0]):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
        check_room(3, lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 3, limits[1]))
    with pytest.raises(OSError, match="Too many open files"):
        check_room(4, lowest)
    assert os.dup(2) == lowest, "nothing is left open"
    os.close(lowest)
