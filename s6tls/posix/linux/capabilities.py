"""Capabilities: the parts of what root may do."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable

from s6tls.posix.linux.libc import capset, prctl

SETGID, SETUID = 6, 7
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = 24, 47, 4
_VERSION_3 = 0x20080522
_HEADER = struct.Struct("=Ii")
_SETS = struct.Struct("=6I")


def retain(kept: Iterable[int] = ()) -> None:
    """Have these capabilities, of those that are permitted, and no others.  Raises OSError."""
    bits = sum(1 << number for number in kept)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    capset(_HEADER.pack(_VERSION_3, 0), _SETS.pack(low, low, 0, high, high, 0))


def bound() -> None:
    """Make sure that no exec gives any capability back, if this process may decide that."""
    with contextlib.suppress(OSError):
        for number in range(64):  # the first that the kernel does not know is refused
            prctl(_PR_CAPBSET_DROP, number)
    with contextlib.suppress(OSError):
        prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
