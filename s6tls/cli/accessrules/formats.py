"""What import, export and build share: reading texts, and saying where they are wrong."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import shown
from s6tls.audit.formats.entries import BadText
from s6tls.cli.accessrules.common import reading, write_whole
from s6tls.cli.options import UsageError
from s6tls.cli.program import USAGE, Failure
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_FAULTS = 100


@contextlib.contextmanager
def parsing(program: str, paths: list[bytes]) -> Iterator[list[bytes]]:
    """Hand over the contents of files; say each fault that is found in them as ``FILE:LINE: …``.  Raises Failure."""
    texts = []
    for path in paths:
        with reading(path), open(0 if path == b"-" else path, "rb") as file:
            texts.append(file.read())
    try:
        yield texts
    except BadText as bad:
        for fault in bad.faults[:MOST_FAULTS]:
            log(program, "error", f"{shown(paths[fault.file])}:{fault.line}: {fault.message}")
        names = " and ".join(map(shown, paths))
        lines = len(bad.faults)
        raise Failure(USAGE, f"unable to take {names}: {lines} line{'' if lines == 1 else 's'} refused") from None


def write_text(text: str, out: bytes | None) -> None:
    """Write a text to a file, whole or not at all, or without one to stdout.  Raises Failure."""
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
    else:
        write_whole(out, text.encode())


def allowing(verdict: bytes) -> bool:
    """Read the value of ``--verdict``.  Raises UsageError."""
    if verdict not in (b"allow", b"deny"):
        raise UsageError(f"invalid value for --verdict: {shown(verdict)} (expected allow or deny)")
    return verdict == b"allow"


def daemon_name(value: bytes) -> str:
    """Read the value of ``--daemon``.  Raises UsageError."""
    if not re.fullmatch(rb"[A-Za-z0-9_-][A-Za-z0-9_.-]*", value):
        raise UsageError(f"not the name of a daemon: {shown(value)}")
    return value.decode()


def suits(format_: bytes, chosen: dict[str, bytes], options: dict[bytes, tuple[str, ...]]) -> str:
    """Return the name of a format, if it is one and takes the options that are given.  Raises UsageError."""
    if format_ not in options:
        known = ", ".join(map(os.fsdecode, options))
        raise UsageError(f"unknown format: {shown(format_)} (expected one of {known})")
    for name in chosen:
        if name in ("verdict", "deny", "daemon") and name not in options[format_]:
            raise UsageError(f"--{name} is not for {shown(format_)}")
    return os.fsdecode(format_)
