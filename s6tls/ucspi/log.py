"""Log lines on stderr, in the reference's form: ``PROGRAM: KIND: MESSAGE``, or as JSON objects."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from s6tls.accessrules.text import printable_ascii
from s6tls.posix import stderr

if TYPE_CHECKING:
    from s6tls.ucspi.image import Image, StageExit

_SELDOM_S = 60.0
_NAMED = frozenset(signal.Signals)
TEXT, JSON = FORMS = ("text", "json")
_quiet = False


class Told(str):
    """A text made of a template and values; `fields` are these values."""

    __slots__ = ("fields",)
    fields: dict[str, object]

    def __new__(cls, template: str, /, **fields: object) -> Told:
        """Fill the template in, as `str.format` does."""
        told = super().__new__(cls, template.format_map(fields))
        told.fields = fields
        return told

    def then(self, more: str) -> Told:
        """Return a text that goes on with another."""
        both = Told("{first} {second}", first=self, second=more)
        both.fields = {**self.fields, **fields_of(more)}
        return both


def fields_of(text: str) -> dict[str, object]:
    """Return the values that a text tells by name, none if it is a plain text."""
    return text.fields if isinstance(text, Told) else {}


def complaint(what: str, preposition: str, client: str, reason: str) -> Told:
    """Return ``WHAT PREPOSITION ADDRESS_PORT: REASON``, without the parts that are empty."""
    ip, _, port = client.rpartition("_")
    known = bool(ip) and port.isdecimal() and port.isascii()  # what a superserver says may be anything
    fields: dict[str, object] = {"ip": ip, "port": int(port)} if known else {"client": client}
    who = f" {preposition} {'{ip}_{port}' if known else '{client}'}" if client else ""
    why = ": {reason}" if reason else ""
    return Told(what + who + why, event="failure", **(fields if client else {}), reason=reason)


def use(form: str) -> None:
    """Have this process write its lines in a form of `FORMS`."""
    if form == TEXT:
        stderr.line = stderr.text
    else:
        import json

        encode = json.JSONEncoder(separators=(",", ":")).encode
        stderr.line = lambda program, kind, message: _object(encode, program, kind, message)


def form() -> str:
    """Return the form that is in use."""
    return TEXT if stderr.line is stderr.text else JSON


def _object(encode: Callable[[object], str], program: str, kind: str, message: str) -> bytes:
    """Return a line that is a JSON object; of one that would be too long, the longest texts are cut short."""
    told: dict[str, object] = {"time": rfc3339(time.time()), "program": program, "level": kind}
    told |= {**fields_of(message), "message": printable_ascii(message)}
    line, most = encode(told), stderr.LONGEST
    while len(line) >= stderr.LONGEST:
        most //= 2
        line = encode({name: _cut(value, most) for name, value in told.items()})
    return line.encode() + b"\n"


def _cut(value: object, most: int) -> object:
    return f"{value[:most]}..." if isinstance(value, str) and len(value) > most else value


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
        stderr.write_line(stderr.line(program, kind, message), _apology)


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


def _apology(lost: int) -> bytes:
    return stderr.line("s6tls", "warning", Told("unable to log {lost} lines: nobody read", lost=lost))


def rfc3339(seconds: float) -> str:
    """Return a moment, in seconds since 1970, as RFC 3339 has it, in UTC and to a millisecond."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"


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
        log(stage_exit.program, stage_exit.kind, stage_exit.message)


def log_start(image: Image, pid: int) -> None:
    """Write the lines that waited for the program's process id."""
    for program, tell in image.on_start:
        log(program, "info", tell(pid))
