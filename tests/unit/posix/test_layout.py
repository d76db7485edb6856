"""Where a process that forks often has its things, and what a fork of it copies."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.servers import PATIENCE

WHAT_IS_MADE = """
import random, sys
from s6tls.posix import layout
size = int(sys.argv[1])
holes = [bytes(size - 33) for _ in range(5000)]
random.Random(1).shuffle(holes)
highest = max(map(id, holes))
del holes[2500:]
layout.fill_gaps()
made = [bytes(size - 33) for _ in range(200)]
print(len([one for one in made if id(one) < highest]))
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

PAGES_OF_A_HEAP = """
import ctypes, mmap, pathlib
from s6tls.posix import layout
size = 2**21
trial = mmap.mmap(-1, 2 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
trial[:] = bytes(len(trial))
start = ctypes.addressof(ctypes.c_char.from_buffer(trial))
can = not ctypes.CDLL(None).madvise(ctypes.c_void_p(-(-start // size) * size), ctypes.c_size_t(size), 25)
before = [bytes(1000) for _ in range(8000)]
layout.join_pages()
heap = pathlib.Path("/proc/self/smaps").read_text().partition("[heap]")[2].split()
print(int(can), heap[heap.index("AnonHugePages:") + 1], before.count(bytes(1000)))
"""


def numbers_of(program: str, *words: str) -> list[int]:
    """What a fresh interpreter prints that has one heap."""
    ran = [sys.executable, "-c", program, *words]
    variables = os.environ | {"PYTHONMALLOC": "malloc"}
    done = subprocess.run(ran, env=variables, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


@pytest.mark.parametrize("size", ["64", "160", "512"])
def test_without_gaps_what_is_made_lies_above_what_was_there(size: str) -> None:
    (below,) = numbers_of(WHAT_IS_MADE, size)
    assert below <= 20  # of 200; with gaps it would be all


def test_without_gaps_the_c_library_allocates_above_all_that_is_in_use() -> None:
    next_one, highest = numbers_of(CHUNKS_OF_THE_C_LIBRARY)
    assert next_one > highest


def test_a_heap_lies_on_large_pages_where_the_kernel_has_them() -> None:
    can, kilobytes, kept = numbers_of(PAGES_OF_A_HEAP)
    assert kept == 8000
    assert kilobytes >= 2048 or not can
