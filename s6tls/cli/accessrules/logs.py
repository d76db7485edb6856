"""What the subcommands that read logs share: their options, and warnings of lines without an address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from s6tls.accessrules.text import shown
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.logs.formats import FORMATS, Log
from s6tls.cli.accessrules.common import count, reading
from s6tls.cli.frame.options import Option, UsageError
from s6tls.ucspi.log import log

FORMAT = Option("", ("format",), "FORMAT", f"the format of logs: {', '.join(FORMATS)} (default: what they look like)")
FIELD = Option("", ("field",), "NAME", "the key in JSON, or the column in CSV, that has the address")


def open_log(path: bytes, chosen: Mapping[str, bytes], progress: Progress = silent) -> Log:
    """Open a log as the options say.  Raises UsageError and OSError."""
    format = shown(chosen["format"]) if "format" in chosen else None
    if format is not None and format not in FORMATS:
        raise UsageError(f"invalid value for --format: {format} (expected {', '.join(FORMATS)})")
    field = chosen["field"].decode("utf-8", "surrogateescape") if "field" in chosen else None
    if field is not None and format not in (None, "json", "csv"):
        raise UsageError(f"--field is for json and csv, not for {format}")
    return Log(path, format, field, progress)


def addresses(program: str, path: bytes, chosen: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the address of each line of a log, packed, then warn of lines without one.  Raises Failure."""
    with reading(path):
        read = open_log(path, chosen)
        yield from read.addresses()
    warn_of_unread(program, path, read)


def warn_of_unread(program: str, path: bytes, read: Log) -> None:
    """Say how many lines of a log, which has been read, are without an address."""
    if read.unread:
        such = f', such as "{shown(read.sample)}"' if read.sample else ""
        unread = f"{read.unread:,} of {count(read.lines, 'line')} without an address{such}"
        log(program, "warning", f"{shown(path)}: {unread} (read as {read.format})")
