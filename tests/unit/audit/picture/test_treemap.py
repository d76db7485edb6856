"""Treemaps: tiles cover their area, in the sizes asked for, and are not long and thin."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.audit.picture.treemap import Area, squarified

SIDES = st.floats(0.01, 1000)
SIZES = st.lists(st.integers(1, 10**6), min_size=1, max_size=40)


@given(SIZES, SIDES, SIDES)
def test_tiles_have_their_sizes_and_cover_the_area(sizes: list[int], width: float, height: float) -> None:
    area = Area(3.0, -5.0, width, height)
    tiles = squarified(sizes, area)
    for tile, size in zip(tiles, sizes, strict=True):
        assert tile.width * tile.height == pytest.approx(width * height * size / sum(sizes), rel=1e-6)
        assert area.x - 1e-6 <= tile.x and tile.x + tile.width <= area.x + width + 1e-6
        assert area.y - 1e-6 <= tile.y and tile.y + tile.height <= area.y + height + 1e-6


@given(SIZES)
def test_tiles_do_not_overlap(sizes: list[int]) -> None:
    for one, other in combinations(squarified(sizes, Area(0, 0, 640, 400)), 2):
        across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert across < 1e-6 or down < 1e-6


def test_the_example_of_the_paper() -> None:
    tiles = squarified([6, 6, 4, 3, 2, 2, 1], Area(0, 0, 6, 4))
    shapes = [(round(tile.width, 2), round(tile.height, 2)) for tile in tiles]
    assert shapes == [(3, 2), (3, 2), (1.71, 2.33), (1.29, 2.33), (1.2, 1.67), (1.2, 1.67), (0.6, 1.67)]


def test_equal_tiles_are_nearly_square() -> None:
    for tile in squarified([1] * 1000, Area(0, 0, 720, 500)):
        assert 1 / 2 < tile.width / tile.height < 2


def test_no_tiles() -> None:
    assert squarified([], Area(0, 0, 1, 1)) == []


def test_an_inset_area() -> None:
    assert Area(1, 2, 10, 20).inset(5, 1) == Area(2, 7, 8, 14)
