"""Which process has started which."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress


def children(pid: int) -> list[int]:
    """Return a process's children.

    All processes are asked for their parent: the kernel's own list, /proc/PID/task/PID/children, leaves out living
    children when others end while it is read.
    """
    return [child for child, parent in _parents() if parent == pid]


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    by_parent: dict[int, list[int]] = {}
    for child, parent in _parents():
        by_parent.setdefault(parent, []).append(child)
    waiting = [pid]
    while waiting:
        yield (found := waiting.pop())
        waiting += by_parent.get(found, ())


def _parents() -> Iterator[tuple[int, int]]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{name}/stat", "rb") as file:
            yield int(name), int(file.read().rpartition(b")")[2].split()[1])
