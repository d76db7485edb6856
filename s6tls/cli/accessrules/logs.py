"""What the subcommands that read logs share: their options, and warnings of lines without an address."""

from __future__ import annotations

from collections.abc import Iterator

from s6tls.accessrules.text import shown
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.logs.formats import FORMATS, Log
from s6tls.cli.accessrules.common import count, reading
from s6tls.cli.frame.options import Given, Option, UsageError
from s6tls.ucspi.log import log

FORMAT = Option(
    "",
    ("format",),
    "|".join(FORMATS),
    "the [format of logs](s6-accessrules-replay.md#logs). Default: what they look like",
)
FIELD = Option("", ("field",), "NAME", "the key in JSON, or the column in CSV, that has the address")


def open_log(path: bytes, given: Given, progress: Progress = silent) -> Log:
    """Open a log as the options say.  Raises UsageError and OSError."""
    format = given.choice("format")
    field = given.value("field")
    if field is None:
        return Log(path, format, None, progress)
    if format not in (None, "json", "csv"):
        raise UsageError(f"--field is for json and csv, not for {format}")
    return Log(path, format, field.decode("utf-8", "surrogateescape"), progress)


def addresses(program: str, path: bytes, given: Given) -> Iterator[bytes]:
    """Yield the address of each line of a log, packed, then warn of lines without one.  Raises Failure."""
    with reading(path):
        read = open_log(path, given)
        yield from read.addresses()
    warn_of_unread(program, path, read)


def warn_of_unread(program: str, path: bytes, read: Log) -> None:
    """Say how many lines of a log, which has been read, are without an address."""
    if read.unread:
        such = f', such as "{shown(read.sample)}"' if read.sample else ""
        unread = f"{read.unread:,} of {count(read.lines, 'line')} without an address{such}"
        log(program, "warning", f"{shown(path)}: {unread} (read as {read.format})")
