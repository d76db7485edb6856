"""File stamps: whether a file is still the one that was read, without reading it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    Stamp = tuple[int, int, int, int, int]

_TICKS_NS = 50_000_000
"""The kernel's clock for files moves every 1 to 10 milliseconds."""


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what changes when a file does: device, inode, size, mtime and ctime (ns)."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_stable(stamp: Stamp, now_ns: int) -> bool:
    """Tell whether every change of the file after `now_ns` will show in its stamp; reading begins at that moment.

    A file's time moves in ticks: a file that was written within the last few may be written again and keep its
    stamp.  It has to be read again until its time is old enough.
    """
    return abs(now_ns - stamp[-1]) > _TICKS_NS
