"""Where things lie in the memory of a process that forks often: on how few pages what its forks use.

A fork shares each page with its parent until one of them writes to it, and then has a copy.  Python writes to all that
it uses: it counts the references to an object in the object itself.  So it is the number of pages with anything in use
that a fork costs, in time and in memory.  Code can be moved together (`gather`).  What a fork makes itself would
lie in the gaps that its parent has left on pages all over the place; without gaps it lies together (`fill_gaps`).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import partial
from types import CodeType, FrameType, FunctionType

_STEP, _LARGEST_SMALL = 16, 512
"""The interpreter has pools for objects up to a size, for each step in size another; the C library has the rest."""
_POOL = 16384
_LARGEST = 65536
_MOST = 4 * 2**20
"""Bytes to fill gaps of one kind with, at most: another allocator than those that we know may have no end of them."""
_HEAD_OF_BYTES = 33
_HEAD_OF_CHUNK = 8
_libc = ctypes.CDLL(None)
_libc.malloc.restype, _libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
_libc.free.restype, _libc.free.argtypes = None, (ctypes.c_void_p,)
_fillers: list[object] = []


def gather(act: Callable[[], object]) -> None:
    """Do something, then copy the code of all functions that it calls to one place.

    What the interpreter has learnt of the code when it ran is forgotten.
    """
    called = _called_by(act)
    fill_gaps()
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__ in called:
            function.__code__ = _copy(function.__code__)


def fill_gaps() -> None:
    """Take, for good, all room between what is in use: what is made from now on lies together."""
    gc.collect()
    for size in range(_STEP, _LARGEST_SMALL + 1, _STEP):
        _fill_pools(size)
    _fill_heap()


def _called_by(act: Callable[[], object]) -> set[CodeType]:
    called: set[CodeType] = set()

    def note(frame: FrameType, _event: str, _argument: object) -> None:
        called.add(frame.f_code)

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return called


def _copy(code: CodeType) -> CodeType:
    inner = (_copy(one) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_consts=tuple(inner))


def _fill_pools(size: int) -> None:
    """Make objects of a size until a row of them lies without a gap, in a pool that was free."""
    make = _maker(size)
    number = _POOL // size // 3
    rows: list[object] = []
    for _ in range(_MOST // (number * size)):
        row = [make() for _ in range(number)]
        places = sorted(map(id, row))
        if places[-1] - places[0] == (number - 1) * size:
            _fillers.extend(rows)
            return
        rows.append(row)


def _maker(size: int) -> Callable[[], object]:
    """Return what makes objects that take so many bytes."""
    smallest: dict[int, Callable[[], object]] = {16: object, 32: partial(complex, 1, 1)}
    return smallest.get(size) or partial(bytes, size - _HEAD_OF_BYTES)


def _fill_heap() -> None:
    """Allocate smaller and smaller chunks, each size until there is none left but above all others."""
    size, top, taken = _LARGEST, 0, 0
    while size > _STEP and taken < _MOST:
        chunk = _libc.malloc(size - _HEAD_OF_CHUNK) or 0
        if chunk < top:
            taken += size
        else:
            top = chunk
            _libc.free(chunk)
            size -= _STEP
