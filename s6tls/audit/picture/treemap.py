"""Squarified treemaps: a rectangle cut into tiles of given sizes, each as near to a square as comes.

After M. Bruls, K. Huizing and J. J. van Wijk, "Squarified Treemaps", Data Visualization 2000 (Eurographics): tiles are
laid in rows along the shorter side of what is left, the largest first; a row takes another tile as long as that
makes none of its tiles longer and thinner than the worst was before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Area(NamedTuple):
    """A rectangle, by its left upper corner; y grows downwards."""

    x: float
    y: float
    width: float
    height: float

    def inset(self, top: float, other: float) -> Area:
        """Return this rectangle without a margin: that at the top, and those at the other sides."""
        return Area(self.x + other, self.y + top, self.width - 2 * other, self.height - top - other)


def squarified(sizes: Sequence[float], area: Area) -> list[Area]:
    """Return a tile for each of `sizes`, all above zero, in their order.

    The tiles cover `area`, which is not empty, do not overlap, and are as large as `sizes` say.
    """
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    falling = [sizes[index] for index in order]
    tiles = [area] * len(sizes)
    left = float(sum(sizes))
    start = 0
    while start < len(order):
        end, taken = _row(falling, start, area, left)
        upright = area.width >= area.height
        strip, area = _cut(area, 1.0 if end == len(order) else taken / left, upright)
        rest, begun = strip, taken
        for index in order[start:end]:
            tiles[index], rest = _cut(rest, min(1.0, sizes[index] / begun), not upright)
            begun -= sizes[index]
        left -= taken
        start = end
    return tiles


def _row(falling: Sequence[float], start: int, area: Area, left: float) -> tuple[int, float]:
    """Return where the row that begins at `start` ends, and the sum of its sizes; all sizes left fill `area`."""
    side = min(area.width, area.height)
    unit = side * side * left / (area.width * area.height)
    largest = taken = falling[start]
    worst = _worst(largest, largest, taken, unit)
    for end in range(start + 1, len(falling)):
        size = falling[end]
        next_worst = _worst(largest, size, taken + size, unit)
        if next_worst > worst:
            return end, taken
        taken, worst = taken + size, next_worst
    return len(falling), taken


def _worst(largest: float, smallest: float, row: float, unit: float) -> float:
    """Return how much longer one side is than the other in the worst tile of a row of this sum."""
    return max(unit * largest / (row * row), row * row / (unit * smallest))


def _cut(area: Area, share: float, upright: bool) -> tuple[Area, Area]:
    """Cut off this share of an area, at the left if the cut is `upright`, else at the top; return both parts."""
    x, y, width, height = area
    if upright:
        return Area(x, y, width * share, height), Area(x + width * share, y, width * (1 - share), height)
    return Area(x, y, width, height * share), Area(x, y + height * share, width, height * (1 - share))
