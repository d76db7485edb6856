"""What import, export and build share: reading texts, and saying where they are wrong."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.text import decoded, shown
from s6tls.audit.formats import hostsaccess
from s6tls.audit.formats.entries import BadText
from s6tls.cli.accessrules.common import count, reading, say_json, write_whole
from s6tls.cli.frame.options import Given, UsageError
from s6tls.cli.frame.program import Failure
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from s6tls.audit.core.wording import Json
    from s6tls.audit.formats.entries import Diagnostic

MOST_FAULTS = 100


class Source(NamedTuple):
    """What was read, and the permissions of the file it was read from: of what is no file, its reader's alone."""

    data: bytes
    mode: int


@contextlib.contextmanager
def parsing(program: str, paths: list[bytes], *, as_json: bool = False) -> Iterator[list[Source]]:
    """Hand over the contents of files; say each fault that is found in them as ``FILE:LINE: …``.  Raises Failure.

    `as_json` has all faults on stdout too, as ``{"refused": [{"file", "line", "message"}]}``.
    """
    sources = []
    for path in paths:
        with reading(path), open(0 if path == b"-" else path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            sources.append(Source(file.read(), stat.S_IMODE(mode) if stat.S_ISREG(mode) else 0o600))
    try:
        yield sources
    except BadText as bad:
        for fault in bad.faults[:MOST_FAULTS]:
            log(program, "error", f"{shown(paths[fault.file])}:{fault.line}: {fault.message}")
        if as_json:
            say_json({"refused": [located(fault, paths) for fault in bad.faults]})
        lines = {(fault.file, fault.line) for fault in bad.faults}
        names = " and ".join(map(shown, paths))
        raise Failure(ExitCode.USAGE, f"unable to take {names}: {count(len(lines), 'line')} refused") from None


def located(fault: Diagnostic, paths: list[bytes]) -> Json:
    """Return a fault as JSON has it."""
    return {"file": decoded(paths[fault.file]), "line": fault.line, "message": fault.message}


def write_text(text: bytes, out: bytes | None, widest: int) -> None:
    """Write a text to a file as `write_whole` does, or without one to stdout.  Raises Failure."""
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text)
    else:
        write_whole(out, text, widest)


def daemon_name(given: Given) -> str | None:
    """Read --daemon.  Raises UsageError."""
    value = given.value("daemon")
    if value is None:
        return None
    if not (value.isascii() and hostsaccess.is_daemon(value.decode())):
        raise UsageError(f"not the name of a daemon: {shown(value)}")
    return value.decode()


def known_format(name: bytes, formats: Collection[str]) -> str:
    """Return the name of a format, if it is one.  Raises UsageError."""
    if os.fsdecode(name) not in formats:
        raise UsageError(f"unknown format: {shown(name)} (expected one of {', '.join(formats)})")
    return os.fsdecode(name)
