"""CSV as RFC 4180 has it, also with semicolons or tabs between fields, and with blanks behind these."""

from __future__ import annotations

import csv
import re
from itertools import chain
from typing import TYPE_CHECKING

from s6tls.audit.logs.clients import chosen, packed_or_none
from s6tls.audit.logs.columns import number_of
from s6tls.audit.logs.stream import LogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RECORD_LIMIT = 8 << 20
_BATCH = 4096
_TAI64N = re.compile(rb"@[0-9a-f]{24}[ \t]+")


class Csv:
    """A table: the column with the client is named by its heading or its number, or has one of the `known` headings."""

    name = "csv"

    def __init__(self, field: str | None, which: int, known: Sequence[str]) -> None:
        self._field, self._which, self._known = field, which, known

    def read(self, chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Yield the client of each record, which may have several lines.  Raises LogError.

        A record that is broken counts as many times as it has lines.
        """
        lines = _RecordLines(chunks)
        first = next(lines, None)
        if first is None:
            return
        heading = _heading(first)
        column = self._column(heading)
        if column is None:
            field = self._field
            raise LogError("no known column in its heading" if field is None else f"no column {field!a}")
        has_heading = self._is_named or packed_or_none(self._cell(heading, column)) is None
        rest = lines if has_heading else chain([first], lines)
        rows = csv.reader(rest, delimiter=_delimiter(first), strict=True, skipinitialspace=True)
        words: list[bytes] = []
        while True:
            before = rows.line_num
            lines.size = 0
            try:
                row = next(rows)
                words.append(self._cell(row, column) if not self._is_named or len(row) <= len(heading) else b"")
            except StopIteration:
                break
            except csv.Error:
                words += [b""] * (rows.line_num - before)
            if len(words) >= _BATCH:
                yield words
                words = []
        yield words

    def knows_heading(self, line: bytes) -> bool:
        """Tell whether this first line of a table has the heading of the column."""
        return self._is_named and self._column(_heading(_text(line))) is not None

    @property
    def _is_named(self) -> bool:
        return self._field is None or number_of(self._field) is None

    def _column(self, heading: list[str]) -> int | None:
        """Return the index of the column with the client, if there is one."""
        if self._field is not None and (number := number_of(self._field)) is not None:
            return number - 1 if 0 < number <= len(heading) else None
        names = self._known if self._field is None else (_text(self._field.encode("utf-8", "surrogateescape")),)
        return next((heading.index(name) for name in names if name in heading), None)

    def _cell(self, row: list[str], column: int) -> bytes:
        return chosen(row[column].encode("latin-1"), self._which) if column < len(row) else b""


class _RecordLines:
    """Lines as the csv module takes them, up to a total `size`: a record could go on for ever."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.size = 0
        self._lines = chain.from_iterable(chunk.split(b"\n") for chunk in chunks)

    def __iter__(self) -> _RecordLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.size += len(line)
        if self.size > RECORD_LIMIT:
            raise LogError(f"a CSV record has more than {RECORD_LIMIT} bytes")
        return _text(line) + "\n"


def _text(line: bytes) -> str:
    return _TAI64N.sub(b"", line, count=1).decode("latin-1") if line.startswith(b"@") else line.decode("latin-1")


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _heading(line: str) -> list[str]:
    try:
        row = next(csv.reader([line], delimiter=_delimiter(line), strict=True, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in row]
