"""Progress callbacks for long audits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

Progress = Callable[[str, int], None]
"""Called now and then with what is being done (``"rules read"``) and how many of it are done."""

_INTERVAL = 1 << 15


def silent(_what: str, _done: int) -> None:
    """Tell nobody."""


def counted(items: Iterable[T], what: str, progress: Progress) -> Iterator[T]:
    """Yield all of `items`, and tell `progress` how many have been taken."""
    number = 0
    for number, item in enumerate(items, 1):
        if not number % _INTERVAL:
            progress(what, number)
        yield item
    progress(what, number)
