"""Log lines on stderr, in the reference's form: ``PROGRAM: KIND: MESSAGE``."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from s6tls.accessrules.text import printable_ascii
from s6tls.posix.stderr import write_line

if TYPE_CHECKING:
    from s6tls.ucspi.image import Image, StageExit

_SELDOM_S = 60.0
_NAMED = frozenset(signal.Signals)
_quiet = False


def silence_warnings(quiet: bool = True) -> None:
    """Have this process and its forks write no warnings, but those of a `Log`, which knows how much it is to say."""
    global _quiet
    _quiet = quiet


def are_warnings_silenced() -> bool:
    """Tell whether they are."""
    return _quiet


def log(program: str, kind: str, message: str) -> None:
    """Write a line, whole, so that lines of several processes do not mix, and without waiting for who reads them.

    Whatever the message quotes, it stays one line: what is not printable ASCII stands as an escape.
    """
    if not (_quiet and kind == "warning"):
        _write(program, kind, message)


def _write(program: str, kind: str, message: str) -> None:
    with contextlib.suppress(MemoryError):
        line = f"{program}: {kind}: {printable_ascii(message)}\n".encode()
        write_line(line, b"s6tls: warning: unable to log %d lines: nobody read\n")


class Log:
    """A program's lines at a verbosity: 0 fatal errors only, 1 also warnings, 2 also what happens to each client."""

    def __init__(self, program: str, verbosity: int) -> None:
        self.program, self.verbosity = program, verbosity

    def warning(self, message: str) -> None:
        """Write a warning from verbosity 1 on."""
        if self.verbosity >= 1:
            _write(self.program, "warning", message)

    def info(self, message: str, verbosity: int = 2) -> None:
        """Write information from this verbosity on."""
        if self.verbosity >= verbosity:
            _write(self.program, "info", message)


class Seldom:
    """Warnings of what goes on happening: the first, then at most one a minute."""

    def __init__(self, program: str) -> None:
        self._program, self._next = program, 0.0

    def warning(self, message: str) -> None:
        """Write a warning, unless one was written within the last minute."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SELDOM_S
            log(self._program, "warning", message)


def death(what: str, status: int) -> str:
    """Return what is to be said of one of our processes that was ended by a signal; nothing of any other end."""
    if not os.WIFSIGNALED(status):
        return ""
    number = os.WTERMSIG(status)
    return f"{what} was ended by {signal.Signals(number).name if number in _NAMED else f'signal {number}'}"


def log_exit(stage_exit: StageExit) -> None:
    """Log why a stage ends the connection, if there is something to say."""
    if str(stage_exit):
        log(stage_exit.program, stage_exit.kind, str(stage_exit))


def log_start(image: Image, pid: int) -> None:
    """Write the lines that waited for the program's process id."""
    for program, text in image.on_start:
        log(program, "info", text.replace("{pid}", str(pid)))
