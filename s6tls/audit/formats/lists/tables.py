"""A column of a table: CSV with commas, semicolons or tabs, or columns between blanks (ipsum, MaxMind, DShield).

A column is named by its heading, or counted from 1.  Two columns, as ``start,end``, are a range.  Lines that begin with
``#`` are comments.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.audit.formats.entries import (
    BadText,
    Diagnostic,
    LineError,
    Parsed,
    Statements,
    faults_of,
    plain_rule,
    sound,
    widest_first,
)
from s6tls.audit.formats.lists.ranges import networks_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s6tls.audit.core.networks import Network

__all__ = ["parse"]

_MARK = "\ufeff"


def parse(data: bytes, *, columns: Sequence[str], allow: bool = True, mask_host_bits: bool = False) -> Parsed:
    """Read one column, or two that are a range; all networks are allowed, or all denied.  Raises BadText."""
    statements = Statements()
    table = _Table(columns, mask_host_bits)
    rule = plain_rule(allow)

    def take(number: int, line: str) -> None:
        line = line.removeprefix(_MARK) if number == 1 else line
        if line.startswith("#"):
            statements.comment(line[1:])
        elif line.strip():
            statements.say(table.networks(line), rule, number)

    faults = faults_of(data, take)
    return sound(widest_first(statements, statements.comments), faults)


class _Table:
    def __init__(self, columns: Sequence[str], mask_host_bits: bool) -> None:
        self._columns = columns
        self._mask_host_bits = mask_host_bits
        self._separator: str | None = None
        self._places: list[int] = []

    def networks(self, line: str) -> list[Network]:
        """Return the networks of a line; none for that of the headings.  Raises LineError and AddressError."""
        is_first = self._separator is None
        if is_first:
            self._separator = next((one for one in "\t,;" if one in line), " ")
        cells = self._cells(line)
        if not self._places:
            self._places = [self._place(name, cells) for name in self._columns]
        if is_first and not any(map(_has_networks, cells)):
            return []
        if len(cells) <= max(self._places):
            raise LineError(f"only {len(cells)} columns")
        found = [cells[place] for place in self._places]
        return networks_in("-".join(found), mask_host_bits=self._mask_host_bits)

    def _cells(self, line: str) -> list[str]:
        if self._separator == " ":
            return line.split()
        if line.count('"') % 2:
            raise LineError("a quote that does not end on the line")
        try:
            cells = next(csv.reader([line], delimiter=self._separator or ",", strict=True))
        except csv.Error as error:
            raise LineError(str(error)) from None
        return [cell.strip() for cell in cells]

    def _place(self, name: str, cells: list[str]) -> int:
        if name.isascii() and name.isdigit() and int(name) > 0:
            return int(name) - 1
        headings = [cell.lower() for cell in cells]
        if headings.count(name.lower()) != 1:
            message = f"no one column {name}: the headings are {', '.join(cells)[:100]!r}"
            raise BadText([Diagnostic(1, message)], Parsed([]))
        return headings.index(name.lower())


def _has_networks(cell: str) -> bool:
    try:
        return bool(networks_in(cell, mask_host_bits=True))
    except (AddressError, LineError):
        return False
