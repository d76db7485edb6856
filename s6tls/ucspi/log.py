"""Log lines on stderr, in the reference's form: ``PROGRAM: KIND: MESSAGE``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from s6tls.accessrules.text import printable_ascii

if TYPE_CHECKING:
    from s6tls.ucspi.image import Image, StageExit


def log(program: str, kind: str, message: str) -> None:
    """Write a line, in one write so that lines of several processes do not mix.

    Whatever the message quotes, it stays one line: what is not printable ASCII stands as an escape.
    """
    with contextlib.suppress(OSError, MemoryError):
        os.write(2, f"{program}: {kind}: {printable_ascii(message)}\n".encode())


class Log:
    """A program's lines at a verbosity: 0 fatal errors only, 1 also warnings, 2 also what happens to each client."""

    def __init__(self, program: str, verbosity: int) -> None:
        self.program, self.verbosity = program, verbosity

    def warning(self, message: str) -> None:
        """Write a warning from verbosity 1 on."""
        if self.verbosity >= 1:
            log(self.program, "warning", message)

    def info(self, message: str, verbosity: int = 2) -> None:
        """Write information from this verbosity on."""
        if self.verbosity >= verbosity:
            log(self.program, "info", message)


def log_exit(stage_exit: StageExit) -> None:
    """Log why a stage ends the connection, if there is something to say."""
    if str(stage_exit):
        log(stage_exit.program, stage_exit.kind, str(stage_exit))


def log_start(image: Image, pid: int) -> None:
    """Write the lines that waited for the program's process id."""
    for program, text in image.on_start:
        log(program, "info", text.format(pid=pid))
