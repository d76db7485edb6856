"""Log lines on stderr, in the reference's form: ``PROGRAM: KIND: MESSAGE``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from s6tls.posix.stderr import write_line

if TYPE_CHECKING:
    from s6tls.ucspi.image import Image, Refused


def log(program: str, kind: str, message: str) -> None:
    """Write a line, whole, so that lines of several processes do not mix, and without waiting for who reads them.

    Whatever the message quotes, it stays one line: what is not printable ASCII stands as an escape.
    """
    with contextlib.suppress(MemoryError):
        if not (message.isascii() and message.isprintable()):
            message = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in message)
        write_line(f"{program}: {kind}: {message}\n".encode(), b"s6tls: warning: unable to log %d lines: nobody read\n")


def log_refusal(refused: Refused) -> None:
    """Log why a connection ends, if there is something to say."""
    if str(refused):
        log(refused.program, refused.kind, str(refused))


def log_start(image: Image, pid: int) -> None:
    """Write the lines that waited for the program's process id."""
    for program, text in image.on_start:
        log(program, "info", text.format(pid=pid))
