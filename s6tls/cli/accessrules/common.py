"""What the subcommands share: reading rule sets, and showing answers to people and to machines.

Nobody but `Table` and `progress` draws, and these load `rich` only for a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from s6tls.accessrules.errors import RuleSetError, shown
from s6tls.audit.contents import Contents
from s6tls.audit.progress import Progress, silent
from s6tls.cli.options import Option
from s6tls.cli.program import SYSTEM, Failure, unable_to

JSON = Option("", ("json",), None, "answer in JSON")
FINDINGS = 1


@contextlib.contextmanager
def reading(path: bytes) -> Iterator[None]:
    """Turn what may be wrong with a rule set or another file into a Failure that names it."""
    try:
        yield
    except RuleSetError as error:
        raise Failure(SYSTEM, f"unable to read {shown(path)}: {error}") from error
    except OSError as error:
        raise Failure(SYSTEM, f"unable to read {shown(path)}: {error.strerror or error}") from error


def load(path: bytes, progress: Progress = silent) -> Contents:
    """Read a whole rule set.  Raises Failure."""
    with reading(path):
        return Contents.load(path, progress=progress)


def write_whole(path: bytes, contents: bytes) -> None:
    """Write a file beside the old one and let it take its place, or leave all as it was.  Raises Failure."""
    temporary = b"%b:s6tls:%d:%b" % (path, os.getpid(), os.urandom(4).hex().encode())
    with unable_to(f"write {shown(path)}"):
        try:
            with open(temporary, "xb") as file:
                file.write(contents)
            os.rename(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def say(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{printable(text)}\n")


def say_json(value: Any) -> None:
    """Write a value to stdout as one line of JSON."""
    json.dump(value, sys.stdout)
    sys.stdout.write("\n")


def printable(text: str) -> str:
    """Return `text` as one line that moves no cursor: control characters stand as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Table:
    """Rows under headings: drawn by `rich` on a terminal, else in plain columns."""

    def __init__(self, *headings: str, right: Sequence[int] = ()) -> None:
        """`right` are the numbers of the columns that are aligned to the right."""
        self._headings = headings
        self._right = frozenset(right)
        self._rows: list[list[str]] = []

    def add(self, *cells: object) -> None:
        """Add a row."""
        self._rows.append([printable(str(cell)) for cell in cells])

    def show(self) -> None:
        """Write the table to stdout; without rows, nothing."""
        if self._rows:
            if sys.stdout.isatty():
                self._draw()
            else:
                self._write()

    def _draw(self) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD)
        for number, heading in enumerate(self._headings):
            table.add_column(heading, justify="right" if number in self._right else "left", overflow="fold")
        for row in self._rows:
            table.add_row(*map(Text, row))
        Console().print(table)

    def _write(self) -> None:
        rows = [list(self._headings), *self._rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [
                cell.rjust(width) if number in self._right else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show how far long work has come, on stderr if that is a terminal."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield silent
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield lambda what, done: status.update(f"{done:,} {what}")
