"""Client addresses in logs of several formats.

A line has one address or none.  Addresses count in the strict form that lookups take, and with a port behind them
where that is unambiguous: ``192.0.2.1:443``, ``[2001:db8::1]:443``.  Stamps in front of a line (TAI64N, or the date and
time of day) are skipped, in every format.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.keys import parse_address
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.logs.stream import LogError, line_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Blocks = Iterator[list[bytes]]


FIELDS = (
    "remote_addr",
    "client_ip",
    "remote_ip",
    "remote_address",
    "client",
    "client.ip",
    "ip",
    "address",
    "source.ip",
    "request.client_ip",
    "request.remote_ip",
)
"""Where addresses are looked for in JSON and CSV when no field is named: the first that is there counts."""

TEXTS = 1 << 18
"""How many different texts of addresses are counted before their counts are handed on."""

_STAMPS = rb"[ \t]*(?:(?:@[0-9a-f]{24}|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,0-9Z+:-]*)[ \t]+)*"
# A text that is longer than the longest address with a port is none; of it this much is kept, to show.
_WORD = 64
_AFTER_STAMPS = re.compile(_STAMPS)
_FIRST_WORD = re.compile(_STAMPS + rb"(\S{0,%d})" % _WORD)
_ACCESS = re.compile(_STAMPS + rb"(?:[^\s:]+: )*(?:allow|deny) pid [0-9]+ ip (\S{0,%d})" % _WORD)
_WITH_PORT = re.compile(rb"\[([^]]*:[^]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
_RECORD_LIMIT = 8 << 20
_UTF8_MARK = b"\xef\xbb\xbf"


def packed_address(text: bytes) -> bytes:
    """Return the 4 or 16 bytes of an address that may have a port.  Raises AddressError."""
    found = _WITH_PORT.fullmatch(text)
    return parse_address((found[1] or found[2]) if found else text)


class Log:
    """One log, to be read once.

    `format` is that given, or what the first lines look like.  When the log has been read, `lines` says how many lines
    it has, `unread` how many of them have no address, and `sample` the first text that stood in the place of one.
    """

    def __init__(
        self, path: bytes, format: str | None = None, field: str | None = None, progress: Progress = silent
    ) -> None:
        """Open a log, gzip and zstd included; ``-`` is stdin.

        `format` is one of `FORMATS`.  `field` names the key in JSON (a dotted path into objects, if need be) or the
        column in CSV, by its heading or its number.  Raises OSError.
        """
        self.lines = 0
        self.unread = 0
        self.sample = b""
        self._progress = progress
        blocks = line_blocks(path)
        first = next(blocks, [])
        if first:
            first[0] = first[0].removeprefix(_UTF8_MARK)
        self.format = format or _guess(first, field)
        self._words = FORMATS[self.format](chain([first] if first else [], blocks), field)

    def addresses(self) -> Iterator[bytes]:
        """Yield the address of each line that has one, packed, in order.  Raises LogError and OSError."""
        known: dict[bytes, bytes | None] = {}
        for words in self._counted():
            for word in words:
                if word not in known:
                    if len(known) >= TEXTS:
                        known.clear()
                    known[word] = _packed_or_none(word)
                packed = known[word]
                if packed is None:
                    self._pass_over(word, 1)
                else:
                    yield packed

    def hits(self, texts: int = TEXTS) -> Iterator[tuple[bytes, int]]:
        """Yield addresses, packed, and how many lines have them.

        In bounded memory: when more than `texts` different ones have been seen, counting starts anew, so that
        an address may come more than once.  Raises LogError and OSError.
        """
        counter: Counter[bytes] = Counter()
        for words in self._counted():
            counter.update(words)
            if len(counter) > texts:
                yield from self._fold(counter)
                counter.clear()
        yield from self._fold(counter)

    def _counted(self) -> Iterator[list[bytes]]:
        for words in self._words:
            self.lines += len(words)
            self._progress("lines read", self.lines)
            yield words

    def _fold(self, counter: Counter[bytes]) -> Iterator[tuple[bytes, int]]:
        for word, number in counter.items():
            packed = _packed_or_none(word)
            if packed is None:
                self._pass_over(word, number)
            else:
                yield packed, number

    def _pass_over(self, word: bytes, number: int) -> None:
        self.unread += number
        self.sample = self.sample or word


def _without_stamps(line: bytes) -> bytes:
    found = _AFTER_STAMPS.match(line)
    return line[found.end() :] if found else line


def _is_address(word: bytes) -> bool:
    return _packed_or_none(word) is not None


def _packed_or_none(word: bytes) -> bytes | None:
    try:
        return packed_address(word)
    except AddressError:
        return None


def _guess(lines: list[bytes], field: str | None) -> str:
    """Return the format that the first lines of a log look like; with a field named, one that has fields."""
    few = [_without_stamps(line) for line in lines[:20] if line.strip()]
    if sum(line.startswith(b"{") for line in few) * 2 > len(few):
        return "json"
    if field is not None or (few and _column(_heading(few[0].decode("latin-1")), None) is not None):
        return "csv"
    return "s6" if any(map(_ACCESS.match, few)) else "plain"


# One reader a format: it takes blocks of lines and yields for each line, or record, what stands where the address
# should be; b"" where nothing does.


def _first_words(blocks: Blocks, _field: str | None) -> Blocks:
    match = _FIRST_WORD.match
    for lines in blocks:
        yield [match(line)[1] for line in lines]  # type: ignore[index]


def _access_lines(blocks: Blocks, _field: str | None) -> Blocks:
    """What s6-tcpserver-access says with ``-v2``."""
    for lines in blocks:
        yield [found[1] if (found := _ACCESS.match(line)) else b"" for line in lines]


def _json_lines(blocks: Blocks, field: str | None) -> Blocks:
    fields = FIELDS if field is None else (field,)
    paths = [(name, name.split(".")) for name in fields]
    decode = json.JSONDecoder().decode
    for lines in blocks:
        words = []
        for line in lines:
            try:
                value = decode(_without_stamps(line).decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                words.append(b"")
            else:
                words.append(_value(value, paths)[:_WORD].encode("utf-8", "replace"))
        yield words


def _value(record: Any, paths: list[tuple[str, list[str]]]) -> str:
    """Return the first text that there is under these names, or along these paths."""
    for name, path in paths:
        value = record
        if isinstance(value, dict) and name in value:
            value = value[name]
        else:
            for step in path:
                value = value.get(step) if isinstance(value, dict) else None
        if isinstance(value, str):
            return value
    return ""


def _csv_records(blocks: Blocks, field: str | None) -> Blocks:
    """Read CSV as RFC 4180 has it, also with ; or tabs between fields.

    A record may have several lines.  One that is broken counts as many times as it has lines.
    """
    lines = _RecordLines(blocks)
    first = next(lines, None)
    if first is None:
        return
    heading = _heading(first)
    column = _column(heading, field)
    if column is None:
        raise LogError("no known column in its heading" if field is None else f"no column {field!a}")
    has_heading = not (_is_number(field) and _is_address(_cell(heading, column)))
    rows = csv.reader(lines if has_heading else chain([first], lines), delimiter=_delimiter(first), strict=True)
    words: list[bytes] = []
    while True:
        before = rows.line_num
        lines.size = 0
        try:
            words.append(_cell(next(rows), column))
        except StopIteration:
            break
        except csv.Error:
            words += [b""] * (rows.line_num - before)
        if len(words) >= 4096:
            yield words
            words = []
    yield words


class _RecordLines:
    """Lines as the csv module takes them, up to a total `size`: a record could go on for ever."""

    def __init__(self, blocks: Blocks) -> None:
        self.size = 0
        self._lines = chain.from_iterable(blocks)

    def __iter__(self) -> _RecordLines:
        return self

    def __next__(self) -> str:
        line = _without_stamps(next(self._lines))
        self.size += len(line)
        if self.size > _RECORD_LIMIT:
            raise LogError(f"a CSV record has more than {_RECORD_LIMIT} bytes")
        return line.decode("latin-1") + "\n"


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _heading(line: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=_delimiter(line), strict=True), [])
    except csv.Error:
        return []


def _column(heading: list[str], field: str | None) -> int | None:
    """Return the index of the column with the addresses: that with this heading or number, or of a known heading."""
    if field is not None and _is_number(field):
        return int(field) - 1 if 0 < int(field) <= len(heading) else None
    names = FIELDS if field is None else (os.fsencode(field).decode("latin-1"),)
    return next((heading.index(name) for name in names if name in heading), None)


def _is_number(field: str | None) -> bool:
    return field is not None and field.isascii() and field.isdecimal() and len(field) < 10


def _cell(row: list[str], column: int) -> bytes:
    return row[column].strip()[:_WORD].encode("latin-1") if column < len(row) else b""


FORMATS: dict[str, Callable[[Blocks, str | None], Blocks]] = {
    "plain": _first_words,
    "common": _first_words,
    "json": _json_lines,
    "csv": _csv_records,
    "s6": _access_lines,
}
