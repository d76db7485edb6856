"""Where things lie in the memory of a process that forks often: on how few pages what its forks write to.

A fork shares each page with its parent until one of them writes to it, and then has a copy.  Python writes to all that
it uses: it counts the references to an object in the object itself.  So it is the number of pages with anything in use
that a fork costs, in time and in memory; and the kernel copies an entry for each page, used or not.

All this is about the C library's heap: the interpreter has to take its memory from there (`s6tls.posix.fresh`).  What
a fork makes itself would lie in the gaps that its parent has left on pages all over the place; without gaps it lies
together (`fill_gaps`).  And what has come to stay can lie on pages of 2 MB (`join_pages`): the kernel copies an entry
for each of these, and still no more than 4 KB for each write.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

_STEP, _LARGEST = 16, 65536
_MOST = 4 * 2**20
"""Bytes to fill gaps with, at most: another allocator than the one that we know may have no end of them."""
_HEAD_OF_CHUNK = 8
_LARGE_PAGE = 2 * 2**20
_COLLAPSE = 25
"""MADV_COLLAPSE of linux/mman.h, since Linux 6.1."""
_libc = ctypes.CDLL(None)
_libc.malloc.restype, _libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
_libc.free.restype, _libc.free.argtypes = None, (ctypes.c_void_p,)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def fill_gaps() -> None:
    """Take, for good, all room between what is in use: what is made from now on lies together, above it.

    Smaller and smaller chunks are allocated, each size until there is none left but above all others.
    """
    gc.collect()
    size, top, taken = _LARGEST, 0, 0
    while size > _STEP and taken < _MOST:
        chunk = _libc.malloc(size - _HEAD_OF_CHUNK) or 0
        if chunk < top:
            taken += size
        else:
            top = chunk
            _libc.free(chunk)
            size -= _STEP


def join_pages() -> None:
    """Have the heap lie on pages of 2 MB, but for its two ends; where the kernel cannot, all stays as it is."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[heap]"):
            first, last = (int(end, 16) for end in line.split(" ")[0].split("-"))
            for page in range(-(-first // _LARGE_PAGE), last // _LARGE_PAGE):
                _libc.madvise(page * _LARGE_PAGE, _LARGE_PAGE, _COLLAPSE)
