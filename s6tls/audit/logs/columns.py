"""Columns between blanks, and the W3C extended log format, whose ``#Fields`` say what its columns are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s6tls.audit.logs.clients import cut
from s6tls.audit.logs.lines import Lines
from s6tls.audit.logs.stream import LogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_COLUMNS = 1000
W3C_CLIENT = "c-ip"
_LOOKED_AT = 4096  # of a line: quotes that nothing closes take the square of this

# Blanks within quotes do not separate columns: what stands there is often the client's own choice.
_COLUMN = rb'(?>(?:"(?>(?:[^"\\\n]|\\.)*)"|[^\s"])+)'
_TABBED = rb"[^\t\n]*+"
_FIELDS = re.compile(rb"^#Fields:[ \t]*(.*)$", re.MULTILINE)
_WORDS = re.compile(_COLUMN)


def number_of(field: str) -> int | None:
    """Return the number that a field is, or None."""
    return int(field) if field.isascii() and field.isdecimal() and len(field) < 10 else None


class Columns:
    """Columns between blanks, named by number, from 1, or by a heading in the first line."""

    name = "columns"

    def __init__(self, field: str, which: int) -> None:
        self._field, self._which = field, which

    @property
    def is_numbered(self) -> bool:
        """Tell whether the column is named by its number, so that no heading is needed."""
        return number_of(self._field) is not None

    def read(self, chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Yield the client of each line; a heading that names the column is none.  Raises LogError."""
        number = number_of(self._field)
        columns = None if number is None else _column(number, self._which)
        for chunk in chunks:
            if columns is not None:
                yield cut(columns.clients(chunk))
                continue
            heading, newline, rest = chunk.partition(b"\n")
            headings = columns_of(heading)
            columns = _column(_numbered(headings, self._field), self._which, len(headings))
            if newline:
                yield cut(columns.clients(rest))


class W3c:
    """The W3C extended log format, with blanks or tabs between its columns."""

    name = "w3c"

    def __init__(self, field: str | None, which: int) -> None:
        self._field, self._which = field or W3C_CLIENT, which

    def read(self, chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Yield the client of each line that is no directive.  Raises LogError."""
        fields: list[bytes] | None = None
        for chunk in chunks:
            words: list[bytes] = []
            for lines, directive in _sections(chunk):
                words += self._clients(lines, fields)
                if directive is not None:
                    fields = directive.split()
            yield words

    def _clients(self, lines: list[bytes], fields: list[bytes] | None) -> list[bytes]:
        if not lines:
            return []
        if fields is None:
            return [b""] * len(lines)
        column = _column(_numbered(fields, self._field), self._which, len(fields), tabbed=b"\t" in lines[0])
        return cut(column.clients(b"\n".join(lines)))


def columns_of(line: bytes) -> list[bytes]:
    """Return the columns of a line between blanks, those in quotes without these; of a long line only the first."""
    return [word.strip(b'"') for word in _WORDS.findall(line[:_LOOKED_AT])]


def has_fields(chunk: bytes) -> bool:
    """Tell whether these lines have the directive that the W3C format must have."""
    return _FIELDS.search(chunk) is not None


def _sections(chunk: bytes) -> Iterator[tuple[list[bytes], bytes | None]]:
    """Yield lines, and the names in the directive behind them, if there is one."""
    lines: list[bytes] = []
    for line in chunk.split(b"\n"):
        if found := _FIELDS.match(line):
            yield lines, found[1]
            lines = []
        elif not line.startswith(b"#"):
            lines.append(line)
    yield lines, None


def _numbered(headings: list[bytes], field: str) -> int:
    number = number_of(field)
    if number is not None:
        return number
    name = field.encode("utf-8", "surrogateescape")
    if name not in headings:
        raise LogError(f"no column {field!a}")
    return headings.index(name) + 1


def _column(number: int, which: int, of: int | None = None, tabbed: bool = False) -> Lines:
    """Return what finds the column of this number; a line with more than `of` columns has none."""
    if not 0 < number <= MOST_COLUMNS:
        raise LogError(f"no column '{number}'")
    column, between = (_TABBED, rb"\t") if tabbed else (_COLUMN, rb"[ \t]++")
    pattern = rb"(?:%s%s){%d}(?P<client>%s)" % (column, between, number - 1, column)
    if of is not None:
        pattern += rb"(?:%s%s){0,%d}[ \t\r]*$" % (between, column, max(0, of - number))
    return Lines("columns", pattern, which, b"" if tabbed else rb"[ \t]*+")
