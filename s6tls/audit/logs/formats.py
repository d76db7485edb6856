"""The formats of logs, by name; and which of them a log has, as far as its lines leave no doubt."""

from __future__ import annotations

import re
from itertools import chain, compress
from typing import TYPE_CHECKING

from s6tls.accessrules.keys import address_text
from s6tls.audit.logs.clients import packed_or_none
from s6tls.audit.logs.columns import Columns, W3c, columns_of, has_fields
from s6tls.audit.logs.envelopes import may_begin_otherwise, opened
from s6tls.audit.logs.jsonrecords import CLIENT_FIELDS, Json, document_records, line_records, text_of
from s6tls.audit.logs.lines import WHOLE_LINES, Lines, Reader, plain, whole_line
from s6tls.audit.logs.stream import LogError
from s6tls.audit.logs.tables import Csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Clients = Sequence[bytes | None]

WITH_FIELDS = ("json", "csv", "columns", "w3c")
"""Formats in which a field may be named."""

FORMATS = ("plain", *WHOLE_LINES, *WITH_FIELDS)

_AROUND = re.compile(rb"""->|[][(){}<>,;"']|^\w+=""")  # an address within a word


def named(format: str, field: str | None, which: int) -> Reader:
    """Return the format of this name.  Raises LogError for columns without a field."""
    if format == "json":
        return Json(field, which)
    if format == "csv":
        return Csv(field, which, CLIENT_FIELDS)
    if format == "w3c":
        return W3c(field, which)
    if format == "columns":
        if field is None:
            raise LogError("no column is named")
        return Columns(field, which)
    return plain() if format == "plain" else whole_line(format, which)


def within_json(chunk: bytes, reader: Reader, field: str | None, which: int) -> Reader:
    """Return a format of lines, for lines that begin like these: if JSON has them, as what is within it."""
    if not isinstance(reader, Lines):
        return reader
    within = Json(field, which, reader)
    return reader if _any(_read(reader, chunk)) or not _any(_read(within, chunk)) else within


def guessed(chunk: bytes, field: str | None, which: int) -> Reader | None:
    """Return the format that lines have, or None if none of them has a client in any.

    With a field named, it is one that has fields.  Raises LogError where formats give different clients.
    """
    if has_fields(chunk):
        return W3c(field, which)
    table = Csv(field, which, CLIENT_FIELDS)
    heading, _, rest = chunk.partition(b"\n")
    if table.knows_heading(heading) and (not rest or _any(_read(table, chunk))):
        return table
    texts = {reader: _texts(reader, chunk) for reader in _candidates(chunk, field, which)}
    found = {reader: clients for reader, some in texts.items() if _any(clients := _packed(some))}
    _refuse_rivals({reader.name: [client for client in clients if client] for reader, clients in found.items()})
    best = next(iter(found), None)
    if field is not None:
        return best
    known = [any(line) for line in zip(*texts.values(), strict=True)]
    return _plain_or(best, chunk, found[best] if best else [None] * len(known), known)


def document(pieces: Iterable[bytes], field: str | None, which: int) -> tuple[str, Iterator[list[bytes]]]:
    """Return what a JSON document was taken for, and the clients of its records.  Raises LogError."""
    batches = document_records(pieces)
    first = next(filter(None, batches), [])
    reader = Json(field, which)
    if first and not _any(_packed(reader.clients_of(first))):
        within = guessed(b"\n".join(map(text_of, first)), field, which)
        if isinstance(within, Lines | Json):
            reader = Json(field, which, within)
    return reader.name, map(reader.clients_of, chain([first], batches))


def _candidates(chunk: bytes, field: str | None, which: int) -> Iterator[Reader]:
    yield from _json(chunk, field, which)
    if field is None:
        for name in WHOLE_LINES:
            yield whole_line(name, which)
    else:
        yield Csv(field, which, CLIENT_FIELDS)
        yield Columns(field, which)


def _json(chunk: bytes, field: str | None, which: int) -> Iterator[Json]:
    """Yield JSON for lines with records: with clients in fields, else in lines of other formats within them."""
    if b"{" not in chunk:
        return
    records = line_records(chunk)
    reader = Json(field, which)
    if _any(_packed(reader.clients_of(records))):
        yield reader
    elif any(texts := list(map(text_of, records))):
        within = guessed(b"\n".join(texts), field, which)
        if isinstance(within, Lines | Json):
            yield Json(field, which, within)


def _texts(reader: Reader, chunk: bytes) -> list[bytes]:
    try:
        return [text for texts in reader.read([chunk]) for text in texts]
    except LogError:
        return []


def _packed(texts: Iterable[bytes]) -> Clients:
    return [packed_or_none(text) for text in texts]


def _read(reader: Reader, chunk: bytes) -> Clients:
    return _packed(_texts(reader, chunk))


def _any(clients: Clients) -> bool:
    return any(client is not None for client in clients)


def _refuse_rivals(found: dict[str, list[bytes]]) -> None:
    """Raise LogError if formats give different clients."""
    clients = list(found.values())
    if any(other != clients[0] for other in clients[1:]):
        told = " or ".join(f"{name} ({address_text(some[0]).decode()})" for name, some in found.items())
        raise LogError(f"it may be read as {told}: the format has to be named")


def _plain_or(best: Reader | None, chunk: bytes, clients: Clients, known: list[bool]) -> Reader | None:
    """Return the plain format, if more lines are unknown to all others and begin with a client than `best` has.

    `clients` are what `best` makes of the lines, `known` tells which of them have the form of another format.
    """
    firsts = _read(plain(), chunk)
    lines = chunk.split(b"\n")
    others = [
        first is not None and not is_known and not may_begin_otherwise(line)
        for first, is_known, line in zip(firsts, known, lines, strict=True)
    ]
    if sum(others) <= sum(client is not None for client in clients):
        return best
    for first, client in zip(firsts, clients, strict=True):
        if best is not None and first is not None and client is not None:
            _refuse_rivals({"plain": [first], best.name: [client]})
    for line in compress(lines, others):
        _refuse_two_addresses(line)
    return plain()


def _refuse_two_addresses(line: bytes) -> None:
    """Raise LogError for a line of an unknown format with more than one address: which is the client's?"""
    rest = opened(line)
    if line.removesuffix(rest).endswith(b","):  # a stamp and the client are one word
        return
    words = [part for word in columns_of(rest) for part in _AROUND.split(word)]
    clients = [client for word in words if (client := packed_or_none(word))]
    other = next((client for client in clients if client != clients[0]), None)
    if other is not None:
        _refuse_rivals({"plain": clients[:1], "columns": [other]})
