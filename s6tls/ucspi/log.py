"""Log lines on stderr, in the reference's form: ``PROGRAM: KIND: MESSAGE``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from s6tls.accessrules.text import printable_ascii

if TYPE_CHECKING:
    from s6tls.ucspi.image import Image, Refused


def log(program: str, kind: str, message: str) -> None:
    """Write a line, in one write so that lines of several processes do not mix.

    Whatever the message quotes, it stays one line: what is not printable ASCII stands as an escape.
    """
    with contextlib.suppress(OSError, MemoryError):
        os.write(2, f"{program}: {kind}: {printable_ascii(message)}\n".encode())


def log_refusal(refused: Refused) -> None:
    """Log why a connection ends, if there is something to say."""
    if str(refused):
        log(refused.program, refused.kind, str(refused))


def log_start(image: Image, pid: int) -> None:
    """Write the lines that waited for the program's process id."""
    for program, text in image.on_start:
        log(program, "info", text.format(pid=pid))
