"""JSON: a record a line, or whole documents with records in arrays; and lines of other formats within them."""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any

from s6tls.audit.logs.clients import cut, each_chosen
from s6tls.audit.logs.envelopes import opened
from s6tls.audit.logs.stream import LogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.audit.logs.lines import LineReader

    Record = Any

CLIENT_FIELDS = (
    "remote_addr",
    "client_ip",
    "request.client_ip",
    "request.remote_ip",
    "request.remote_addr",
    "remote_ip",
    "remote_address",
    "remoteAddr",
    "remoteAddress",
    "req.remoteAddress",
    "ClientHost",
    "ClientAddr",
    "ClientIP",
    "clientIp",
    "client",
    "client.ip",
    "client.address",
    "client_addr",
    "ip",
    "address",
    "source.ip",
    "source.address",
    "sourceIPAddress",
    "sourceIPs",
    "httpRequest.remoteIp",
    "httpRequest.clientIp",
    "protoPayload.requestMetadata.callerIp",
    "callerIpAddress",
    "properties.clientIP",
    "properties.clientIp",
    "c-ip",
    "id.orig_h",
    "downstream_remote_address",
)
"""Where clients are looked for in JSON and CSV when no field is named: the first that is there counts."""

TEXT_FIELDS = ("MESSAGE", "log", "message", "textPayload", "short_message", "line", "msg")
"""Where collectors put the line of a program: journald, docker, Beats, Google Cloud, GELF, Promtail."""

RECORD_LIMIT = 8 << 20

_DOCUMENT = re.compile(rb"\s*(?:\[\s*(?:[{\]]|$)|\{)")
_LISTS = ("Records", "logEvents")
_BETWEEN = re.compile(r'(?:[\s,:\[\]}]|\{\s*"(?:' + "|".join(_LISTS) + r')"\s*:\s*\[\s*(?=\{))*')
_decode = json.JSONDecoder().decode
_raw_decode = json.JSONDecoder().raw_decode

Path = tuple[str, list[str]]


class Json:
    """Records with the client in a field, or, with `within`, in a line of another format that a field has."""

    def __init__(self, field: str | None, which: int, within: LineReader | None = None) -> None:
        self._paths = _paths((field,) if field is not None else CLIENT_FIELDS)
        self._which = which
        self._within = within
        self.name = f"{within.name} in json" if within else "json"

    def read(self, chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Yield the client of each line."""
        return map(self.clients, chunks)

    def read_document(self, pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Yield the client of each record of a document, whose pieces need not end where lines do.  Raises LogError."""
        return map(self.clients_of, document_records(pieces))

    def clients(self, chunk: bytes) -> list[bytes]:
        """Return what stands where the client should be, for each of these lines."""
        return self.clients_of(line_records(chunk))

    def clients_of(self, records: list[Record]) -> list[bytes]:
        """Return what stands where the client should be, for each of these records."""
        if self._within is not None:
            return self._within.clients(b"\n".join(map(text_of, records))) if records else []
        texts = [_value(record, self._paths).encode("utf-8", "replace") for record in records]
        return cut(each_chosen(texts, self._which))


def text_of(record: Record) -> bytes:
    """Return the line of a program within a record: the first one of a text that has several."""
    if not isinstance(record, dict):
        return b""
    value = next((record[name] for name in TEXT_FIELDS if isinstance(record.get(name), str | list)), "")
    if isinstance(value, list):  # journald's form of bytes that are no text
        value = bytes(n for n in value if isinstance(n, int) and 0 <= n < 256).decode("utf-8", "replace")
    return value.partition("\n")[0].encode("utf-8", "replace")


def line_records(chunk: bytes) -> list[Record]:
    """Return the record in each of these lines, None where there is none."""
    return list(map(_record, chunk.split(b"\n")))


def _record(line: bytes) -> Record:
    if not line.startswith(b"{"):
        line = opened(line)
        if not line.startswith(b"{"):
            return None
    try:
        return _decode(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def is_document(head: bytes) -> bool:
    """Tell whether a log that begins so is JSON, and its records are not each in a line."""
    if not _DOCUMENT.match(head):
        return False
    if head.lstrip().startswith(b"["):
        return True
    records = [_record(line) for line in head.split(b"\n") if line.startswith(b"{")]
    whole = [record for record in records if record is not None]
    return not whole or any(isinstance(record.get(name), list) for record in whole for name in _LISTS)


def document_records(pieces: Iterable[bytes]) -> Iterator[list[Record]]:
    """Yield the objects of a document, or of several one behind the other: those in arrays, else those outermost.

    Raises LogError if the document is broken, or a record too long.
    """
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    text = ""
    broken = ""
    for piece in pieces:
        text += decode(piece)
        records, text, broken = _first_records(text)
        yield records
        if len(text) > RECORD_LIMIT:
            raise LogError(f"a JSON record has more than {RECORD_LIMIT} characters")
    if broken:
        raise LogError(f"broken JSON: {broken}")


def _first_records(text: str) -> tuple[list[Record], str, str]:
    """Return the whole objects that a text begins with, the rest, and what hinders the reading of that."""
    records: list[Record] = []
    at = 0
    while True:
        between = _BETWEEN.match(text, at)
        at = between.end() if between else at
        if at == len(text):
            return records, "", ""
        try:
            value, at = _raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            return records, text[at:], str(error)
        if isinstance(value, dict):
            records += next((value[name] for name in _LISTS if isinstance(value.get(name), list)), [value])


def _paths(names: Iterable[str]) -> list[Path]:
    return [(name, name.split(".")) for name in names]


def _value(record: Record, paths: list[Path]) -> str:
    """Return the first text, or list of texts, that there is under these names, or along these paths."""
    if not isinstance(record, dict):
        return ""
    for name, path in paths:
        if name in record:
            value = record[name]
        elif path[0] in record:
            value = record
            for step in path:
                value = value.get(step) if isinstance(value, dict) else None
        else:
            continue
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return ",".join(value)
    return ""
