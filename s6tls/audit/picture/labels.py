"""Where labels stand on a plane of cells: where they hide nothing, or nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from s6tls.audit.picture.treemap import Area

if TYPE_CHECKING:
    from collections.abc import Iterable

CHARACTER = 0.58
"""How wide a character is, about, to its font's size."""

_MARGIN = 2.0
_ASCENT, _DESCENT = 0.8, 0.25


class Spot(NamedTuple):
    """Where a label may stand: y is that of its baseline, and x that of its start, middle or end, as `anchor` says."""

    x: float
    y: float
    anchor: str

    def area(self, text: str, size: int) -> Area:
        """Return what a text covers there, with a margin."""
        width = len(text) * size * CHARACTER
        left = self.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]
        top, bottom = self.y - _ASCENT * size, self.y + _DESCENT * size
        return Area(left - _MARGIN, top - _MARGIN, width + 2 * _MARGIN, bottom - top + 2 * _MARGIN)


class Ground:
    """A square of 2**order columns and rows, each cell the index of a swatch; and the labels on it."""

    def __init__(self, square: Area, order: int, cells: bytes) -> None:
        self._square, self._columns, self._cells = square, 1 << order, cells
        self._taken: list[Area] = []

    def place(self, text: str, size: int, spots: Iterable[Spot]) -> tuple[Spot, int] | None:
        """Take the first spot where a text hides no cell that differs from those around it, and no other label.

        Return it with the swatch beneath, or None if there is none.
        """
        for spot in spots:
            area = spot.area(text, size)
            swatch = self.swatch_beneath(area)
            if swatch is not None and not any(_overlap(area, taken) for taken in self._taken):
                self._taken.append(area)
                return spot, swatch
        return None

    def swatch_beneath(self, area: Area) -> int | None:
        """Return the swatch that all cells within an area have; None if they have several, or some lie outside."""
        scale = self._columns / self._square.width
        left, top = (area.x - self._square.x) * scale, (area.y - self._square.y) * scale
        right, bottom = left + area.width * scale, top + area.height * scale
        if left < 0 or top < 0 or right > self._columns or bottom > self._columns:
            return None
        swatches = {
            swatch
            for row in range(int(top), min(int(bottom) + 1, self._columns))
            for swatch in set(self._cells[row * self._columns + int(left) : row * self._columns + int(right) + 1])
        }
        return swatches.pop() if len(swatches) == 1 else None


def _overlap(one: Area, other: Area) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )
