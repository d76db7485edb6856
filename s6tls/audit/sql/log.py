"""A log as a query: DuckDB reads, unpacks and counts on all cores, and puts on disk what memory does not hold."""

from __future__ import annotations

import re
import secrets
import tempfile
from contextlib import contextmanager
from itertools import starmap
from typing import TYPE_CHECKING

from s6tls.accessrules.text import printable
from s6tls.audit.logs.clients import FIRST, LONGEST, chosen
from s6tls.audit.logs.jsonrecords import CLIENT_FIELDS
from s6tls.audit.logs.stream import LogError
from s6tls.audit.logs.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from duckdb import DuckDBPyConnection

FORMATS = ("parquet", "csv", "json", "plain")

_ENDINGS = {"parquet": "parquet", "csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json", "ndjson": "json"}
_BATCH = 1 << 14

_SOURCES = {
    "parquet": "read_parquet($path, union_by_name = true)",
    "csv": "read_csv($path, header = true, all_varchar = true, union_by_name = true)",
    "json": "read_json($path, union_by_name = true)",
}

# The CSV reader gives a line as a column where no line has the separator.  It is made up for each query, so that none
# can be written for it.  Lines that end in other ways than the first, as a carriage return makes them, are an error.
_LINES = (
    "read_csv($path, columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false, delim = '{delimiter}', "
    "quote = '', escape = '', encoding = 'latin-1', null_padding = true)"
)
_FIRST_WORD = rf"^\S{{1,{LONGEST}}}"

_TEXTS = {
    "VARCHAR": "{}",
    "BLOB": "{}::VARCHAR",
    "JSON": "json_extract_string({}, '$')",
    "VARCHAR[]": "array_to_string({}, ',')",
}
"""How columns of a type are read as texts; those of other types have no client."""


class SqlLog(Tally):
    """The files that a pattern such as ``logs/*.parquet`` stands for, to be read once.

    `format` is known from the start, and the counts when all has been read.
    """

    def __init__(
        self,
        pattern: bytes,
        format: str | None = None,
        field: str | None = None,
        *,
        expression: bytes | None = None,
        forwarded: int = FIRST,
        threads: int | None = None,
    ) -> None:
        """`format` is one of `FORMATS`; without one, the end of the name tells.

        `field` names the column, or a path with dots into it; `expression` is a regular expression, for Python and for
        DuckDB (RE2), whose group ``client`` is the client in a line.  `forwarded` is the index of the client in a list.

        Raises ValueError if the expression is none, and LogError if the format is not known.
        """
        super().__init__()
        self._path = _text(pattern)
        self._field, self._which, self._threads = field, forwarded, threads
        self._group = 0
        self._expression = _FIRST_WORD
        if expression is not None:
            self._expression = _text(expression)
            self._group = _group_of_client(self._expression)
        self.format = "regex" if expression is not None else format or _format_of(self._path)

    def hits(self) -> Iterator[tuple[bytes, int]]:
        """Yield addresses, packed, and how many lines or records have each; one may come more than once.

        Raises LogError, also if there are lines and none has an address, and ModuleNotFoundError.
        """
        with _connection(self._threads) as connection:
            yield from self.addresses_of(starmap(self._client, self._counted(connection)))
        self.refuse_nothing()

    def _counted(self, connection: DuckDBPyConnection) -> Iterator[tuple[str | None, int]]:
        if self.format in _SOURCES:
            source, values = _SOURCES[self.format], {"path": self._path}
            client = self._column(connection, source)
        else:
            source = _LINES.format(delimiter=_made_up())
            values = {"path": self._path, "expression": self._expression}
            client = f"regexp_extract(line, $expression, {self._group})"
        query = f"SELECT {client}, count(*) FROM {source} GROUP BY 1"
        found = connection.execute(query, values)
        while rows := found.fetchmany(_BATCH):
            yield from rows

    def _client(self, text: str | None, number: int) -> tuple[bytes, int]:
        self.lines += number
        return chosen((text or "").encode("utf-8", "replace"), self._which), number

    def _column(self, connection: DuckDBPyConnection, source: str) -> str:
        """Return what selects the client.  Raises LogError if there is no such column."""
        found = _columns(connection, source, self._path, [self._field] if self._field else CLIENT_FIELDS)
        if not found:
            raise LogError("no known column in it" if self._field is None else f"no column of texts {self._field!a}")
        return f"coalesce({', '.join(found)})" if self.format == "json" else found[0]


def _columns(connection: DuckDBPyConnection, source: str, path: str, names: Iterable[str]) -> list[str]:
    """Return what selects the columns that there are of these."""
    known = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}", {"path": path}).fetchall()}
    return list(filter(None, (_selected(connection, source, path, name, known) for name in names)))


def _selected(connection: DuckDBPyConnection, source: str, path: str, name: str, known: set[str]) -> str | None:
    import duckdb

    steps = [name] if name in known else name.split(".")
    if steps[0] not in known:
        return None
    column = ".".join('"{}"'.format(step.replace('"', '""')) for step in steps)
    try:
        described = connection.execute(f"DESCRIBE SELECT {column} FROM {source}", {"path": path}).fetchone()
    except duckdb.BinderException:  # no such step
        return None
    as_text = _TEXTS.get(described[1]) if described else None
    return as_text.format(column) if as_text else None


@contextmanager
def _connection(threads: int | None) -> Iterator[DuckDBPyConnection]:
    """Hand over a database in memory that fetches nothing from anywhere.  Turns its errors into LogError."""
    import duckdb

    options: dict[str, str | int] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    if threads is not None:
        options["threads"] = threads
    with tempfile.TemporaryDirectory(prefix="s6-accessrules-") as directory:
        try:
            with duckdb.connect(config={**options, "temp_directory": directory}) as connection:
                yield connection
        except duckdb.Error as error:
            raise LogError(printable(str(error).partition("\n")[0])) from error


def _made_up() -> str:
    return "".join(secrets.choice("\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a") for _ in range(4))


def _group_of_client(expression: str) -> int:
    try:
        groups = re.compile(expression).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if "client" not in groups:
        raise ValueError("it has no group (?P<client>...)")
    return groups["client"]


def _format_of(path: str) -> str:
    ending = path.removesuffix(".gz").removesuffix(".zst").rpartition(".")[2].lower()
    if ending not in _ENDINGS:
        raise LogError("its name does not end as those of Parquet, CSV or JSON do: the format has to be named")
    return _ENDINGS[ending]


def _text(word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError:
        raise LogError("it is not UTF-8") from None
