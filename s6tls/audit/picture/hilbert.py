"""Where networks lie on a Hilbert curve through a square.

The curve (D. Hilbert, "Über die stetige Abbildung einer Linie auf ein Flächenstück", Mathematische Annalen 38, 1891)
goes through the quarters of the square one after the other, and through the quarters of each likewise.  So two bits of
an address choose a quarter, the next two a quarter of that, and a network is a square, or two of them side by side.

The curve starts at the top left and ends at the top right, as maps of the Internet have it.
"""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle, by its left upper corner; y grows downwards."""

    x: int
    y: int
    width: int
    height: int


# By the way the curve goes through a square: the quarters in their order, as column, row, and the way through each.
# The curve keeps its way in the two middle quarters; the first is mirrored at one diagonal, the last at the other.
_QUARTERS = {
    "down": ((0, 0, "right"), (0, 1, "down"), (1, 1, "down"), (1, 0, "left")),
    "right": ((0, 0, "down"), (1, 0, "right"), (1, 1, "right"), (0, 1, "up")),
    "left": ((1, 1, "up"), (0, 1, "left"), (0, 0, "left"), (1, 0, "down")),
    "up": ((1, 1, "left"), (1, 0, "up"), (0, 0, "up"), (0, 1, "right")),
}


def box(number: int, length: int, bits: int) -> Box:
    """Return where a network lies in a square of 2**(bits/2) columns and rows.

    `number` is the number of its first address, `length` that of its prefix, `bits` how many an address has: an even
    number.
    """
    x = y = 0
    way = "down"
    free = bits
    for _ in range(length // 2):
        free -= 2
        column, row, way = _QUARTERS[way][number >> free & 3]
        x, y = 2 * x + column, 2 * y + row
    side = 1 << free // 2
    if length % 2 == 0:
        return Box(x * side, y * side, side, side)
    side //= 2
    half = number >> free - 1 & 1
    (column, row, _), (other_column, other_row, _) = _QUARTERS[way][2 * half : 2 * half + 2]
    return Box(
        (2 * x + min(column, other_column)) * side,
        (2 * y + min(row, other_row)) * side,
        side * (1 + abs(column - other_column)),
        side * (1 + abs(row - other_row)),
    )


def curve(order: int) -> list[tuple[int, int]]:
    """Return column and row of every cell of a square of 2**order columns and rows, in the order of the curve."""
    cells = [(0, 0, "down")]
    for _ in range(order):
        cells = [(2 * x + column, 2 * y + row, to) for x, y, way in cells for column, row, to in _QUARTERS[way]]
    return [(x, y) for x, y, _ in cells]
