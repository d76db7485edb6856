"""What the subcommands that read logs share: their options, and what they say of each log."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from s6tls.accessrules.text import shown
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.logs.clients import FIRST, LAST
from s6tls.audit.logs.formats import FORMATS, WITH_FIELDS
from s6tls.audit.logs.log import Log
from s6tls.audit.logs.times import Since
from s6tls.cli.accessrules.common import count, reading
from s6tls.cli.frame.options import Given, Option, UsageError, number
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.logs.tally import Tally
    from s6tls.audit.sql import SqlLog

FORMAT = Option(
    "",
    ("format",),
    "|".join(FORMATS),
    "the [format of logs](s6-accessrules-replay.md#logs). Default: the one that their lines have",
)
REGEX = Option(
    "",
    ("regex",),
    "EXPRESSION",
    "instead of a format: a regular expression whose group `(?P<client>...)` is the address",
    alternative=True,
)
FIELD = Option("", ("field",), "NAME", "the key in JSON, or the column by its heading or number, that has the address")
FORWARDED = Option(
    "",
    ("forwarded",),
    "first|last|N",
    "which address of a list, as in X-Forwarded-For, is the client's. -2 is the last but one. Default: the first",
)
OPTIONS = (FORMAT, REGEX, FIELD, FORWARDED)


def open_log(path: bytes, given: Given, progress: Progress = silent, since: Since | None = None) -> Log:
    """Open a log as the options say.  Raises UsageError and OSError."""
    try:
        return opener(path, given)(since=since, progress=progress)
    except ValueError as error:
        raise UsageError(f"invalid value for --regex: {error}") from error


def opener(path: bytes, given: Given) -> partial[Log]:
    """Return what opens a log as the options say, in this process or another.  Raises UsageError."""
    format, expression = given.choice("format"), given.value("regex")
    field = given.value("field")
    if field is not None and (expression is not None or format not in (None, *WITH_FIELDS)):
        raise UsageError(f"--field is for {', '.join(WITH_FIELDS)}, not for {format or 'regex'}")
    if field is None and format == "columns":
        raise UsageError("--format=columns needs --field")
    name = None if field is None else field.decode("utf-8", "surrogateescape")
    return partial(Log, path, format, name, expression=expression, forwarded=_forwarded(given))


def sql_log(pattern: bytes, given: Given, threads: int | None) -> SqlLog:
    """Open the files of a pattern for DuckDB, as the options say.  Raises UsageError and LogError."""
    from s6tls.audit.sql import FORMATS, SqlLog

    format, expression, field = given.choice("format"), given.value("regex"), given.value("field")
    if format not in (None, *FORMATS):
        raise UsageError(f"--sql reads {', '.join(FORMATS)} and --regex, not {format}")
    if field is not None and (expression is not None or format == "plain"):
        raise UsageError("--field is for columns, not for lines")
    name = None if field is None else field.decode("utf-8", "surrogateescape")
    try:
        return SqlLog(pattern, format, name, expression=expression, forwarded=_forwarded(given), threads=threads)
    except ValueError as error:
        raise UsageError(f"invalid value for --regex: {error}") from error


def _forwarded(given: Given) -> int:
    value = given.value("forwarded", b"first")
    if value in (b"first", b"last"):
        return FIRST if value == b"first" else LAST
    place = number("--forwarded", value.removeprefix(b"-"), 1)
    return -place if value.startswith(b"-") else place - 1


def refuse_without_log(given: Given) -> None:
    """Raise UsageError for options that are about a log, where none is given."""
    if given.last(*(option.name for option in OPTIONS)):
        raise UsageError("--format, --regex, --field and --forwarded are for --log")


def addresses(program: str, path: bytes, given: Given) -> Iterator[bytes]:
    """Yield the address of each line of a log, packed, then say what was read.  Raises Failure."""
    with reading(path):
        read = open_log(path, given)
        yield from read.addresses()
    tell_of_log(program, path, read)


def tell_of_log(program: str, path: bytes, read: Tally) -> None:
    """Say what a log, which has been read, was taken for, and warn of lines without an address."""
    if read.unread:
        such = f', such as "{shown(read.sample)}"' if read.sample else ""
        unread = f"{read.unread:,} of {count(read.lines, 'line')} without an address{such}"
        log(program, "warning", f"{shown(path)}: {unread} (read as {read.format})")
    elif read.format:
        log(program, "info", f"{shown(path)}: {count(read.lines, 'line')} read as {read.format}")
