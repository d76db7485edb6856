"""Calls of the kernel that Python has no function for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 4, 8, 38

Argument = int | bytes | ctypes.Array[ctypes.c_char] | None
"""A number, or what a pointer leads to."""


def syscall(number: int, *arguments: Argument) -> int:
    """Make a system call.  Raises OSError."""
    return prepared(number, *arguments)()


def prepared(number: int, *arguments: Argument) -> Callable[[], int]:
    """Return a function that makes a system call, and raises OSError; all that can be done ahead of a fork is done."""
    call, words = _libc.syscall, (ctypes.c_long(number), *map(_passed, arguments))

    def make() -> int:
        return _checked(call(*words))

    return make


def prctl(option: int, *arguments: int) -> int:
    """Change or ask for something of this process.  Raises OSError."""
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(int(_libc.prctl(ctypes.c_int(option), *words)))


def capset(header: bytes, sets: bytes) -> None:
    """Change the capabilities of this process (capset(2)).  Raises OSError."""
    _checked(int(_libc.capset(header, sets)))


def hide() -> None:
    """Let no other process of the same ids read this one's memory or trace it, and no core dump show it.

    What this process execs can be seen again.
    """
    prctl(_PR_SET_DUMPABLE, 0)


def gain_nothing_by_exec() -> None:
    """Give up what set-user-id programs give; Landlock and seccomp insist on it."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def keep_capabilities() -> None:
    """Keep the permitted capabilities, not the effective ones, when root becomes another user."""
    prctl(_PR_SET_KEEPCAPS, 1)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _passed(argument: Argument) -> object:
    return ctypes.c_long(argument) if isinstance(argument, int) else argument
