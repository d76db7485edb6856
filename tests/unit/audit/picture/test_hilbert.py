"""The Hilbert curve: what makes it one, and networks beside the cells that they consist of."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.audit.picture import hilbert

ORDERS = range(6)


@pytest.mark.parametrize("order", ORDERS)
def test_the_curve_goes_through_every_cell_once(order: int) -> None:
    cells = hilbert.curve(order)
    assert len(cells) == 4**order
    assert set(cells) == {(x, y) for x in range(2**order) for y in range(2**order)}


@pytest.mark.parametrize("order", ORDERS)
def test_the_curve_goes_from_neighbour_to_neighbour(order: int) -> None:
    for (x, y), (next_x, next_y) in pairwise(hilbert.curve(order)):
        assert abs(x - next_x) + abs(y - next_y) == 1


@pytest.mark.parametrize("order", ORDERS)
def test_the_curve_goes_from_the_top_left_to_the_top_right(order: int) -> None:
    cells = hilbert.curve(order)
    assert (cells[0], cells[-1]) == ((0, 0), (2**order - 1, 0))


def test_the_first_networks_of_the_internet_are_where_all_maps_have_them() -> None:
    assert hilbert.curve(4)[:8] == [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 3), (1, 3), (1, 2)]


@pytest.mark.parametrize("order", ORDERS)
def test_a_network_is_the_rectangle_of_its_cells(order: int) -> None:
    bits = 2 * order
    cells = hilbert.curve(order)
    for length in range(bits + 1):
        size = 1 << bits - length
        for number in range(0, 1 << bits, size):
            x, y, width, height = hilbert.box(number, length, bits)
            inside = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
            assert inside == set(cells[number : number + size])
            assert max(width, height) == min(width, height) * (1 + length % 2)


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_a_network_lies_within_wider_ones(number: int, length: int) -> None:
    x, y, width, height = hilbert.box(number >> 32 - length << 32 - length, length, 32)
    column, row, one, _ = hilbert.box(number, 32, 32)
    assert one == 1 and x <= column < x + width and y <= row < y + height
