"""Where a process that forks has its things: what is used together lies together, and does what it did."""

from __future__ import annotations

import subprocess
import sys

import pytest

from s6tls.posix import layout
from tests.support.servers import PATIENCE

POOL = 16384


POOLS_OF_WHAT_IS_MADE = f"""
import random, sys
from s6tls.posix import layout
size = int(sys.argv[1])
holes = [bytes(size - 33) for _ in range(5000)]
random.Random(1).shuffle(holes)
del holes[2500:]
layout.fill_gaps()
made = [bytes(size - 33) for _ in range(4 * {POOL} // size)]
print(len({{id(one) // {POOL} for one in made}}))
"""


CHUNKS_OF_THE_C_LIBRARY = """
import ctypes
from s6tls.posix import layout
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
chunks = [libc.malloc(3000) for _ in range(200)]
for chunk in chunks[:-1:2]:
    libc.free(chunk)
layout.fill_gaps()
next_one = libc.malloc(2900)
print(next_one, max(chunks))
"""


def numbers_of(program: str, *words: str) -> list[int]:
    """What a fresh interpreter prints: that of the tests has more gaps than are filled."""
    ran = [sys.executable, "-c", program, *words]
    done = subprocess.run(ran, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


@pytest.mark.parametrize("size", ["64", "160", "512"])
def test_without_gaps_what_is_made_lies_in_few_pools(size: str) -> None:
    """It would take eight if each pool were half full."""
    (pools,) = numbers_of(POOLS_OF_WHAT_IS_MADE, size)
    assert pools <= 6


def test_without_gaps_the_c_library_allocates_above_all_that_is_in_use() -> None:
    next_one, highest = numbers_of(CHUNKS_OF_THE_C_LIBRARY)
    assert next_one > highest


def test_an_allocator_that_has_no_such_pools_gets_all_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_POOL", 2**20)
    before = len(layout._fillers)
    layout._fill_pools(64)
    assert len(layout._fillers) == before


def double(number: int) -> list[int]:
    return [one * 2 for one in range(number)]


def uncalled() -> None:
    """Never run."""


def test_the_code_of_what_is_called_moves_and_does_the_same() -> None:
    before, others = double.__code__, uncalled.__code__
    layout.gather(lambda: double(1))
    assert double.__code__ is not before and double.__code__ == before and double(3) == [0, 2, 4]
    assert uncalled.__code__ is others


def test_what_goes_wrong_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        layout.gather(lambda: 1 // 0)
