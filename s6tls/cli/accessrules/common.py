"""What the subcommands share: reading rule sets, and showing answers to people and to machines.

Only `Table` and `progress` use `rich`, and only on a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import islice, zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from s6tls.accessrules.atomic import replace_atomically
from s6tls.accessrules.deferred_signals import DeferredSignals, Interrupted
from s6tls.accessrules.errors import RuleSetError
from s6tls.accessrules.text import printable, shown
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.formats.opening import compiled
from s6tls.cli.frame.options import Option, UsageError
from s6tls.cli.frame.program import Failure, unable_to
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.core.wording import Json

JSON = Option("", ("json",), None, "answer in JSON")

TOP = Option("", ("top",), "N", "show no more than the first N rows of each table. Default: 1000; JSON has all rows")

JSON_VERSION = 1
"""Changes with the next change to the form of an answer that its readers would notice."""

MOST_EXACT = 1 << 53
"""Many readers of JSON take numbers for doubles, which are exact up to here."""

MOST_ROWS = 1000
"""A table shows no more rows than these, and says how many more there are."""

WIDTH = 120
"""Plain columns are no wider together than this many characters, as far as numbers let them."""

_NARROWEST = 10
_GAP = 2

_UNBOUNDED = 1 << 20

T = TypeVar("T")


@contextlib.contextmanager
def reading(path: bytes) -> Iterator[None]:
    """Turn what may be wrong with a rule set or another file into a Failure that names it."""
    with _unable("read", path):
        yield


@contextlib.contextmanager
def writing(path: bytes) -> Iterator[None]:
    """Turn what may hinder the writing of a rule set or another file into a Failure that names it."""
    with _unable("write", path):
        yield


@contextlib.contextmanager
def interruptible() -> Iterator[DeferredSignals]:
    """Let a signal end work at its next checkpoint, and the process when all is tidy.  Raises Failure."""
    try:
        with DeferredSignals() as interruption:
            yield interruption
    except Interrupted:
        raise Failure(ExitCode.SYSTEM, "interrupted") from None


@contextlib.contextmanager
def _unable(action: str, path: bytes) -> Iterator[None]:
    doing = f"{action} {shown(path) or 'a file without a name'}"
    try:
        with unable_to(doing):
            yield
    except RuleSetError as error:
        raise Failure(ExitCode.SYSTEM, f"unable to {doing}: {error}") from error


@contextlib.contextmanager
def rules_at(path: bytes) -> Iterator[bytes]:
    """Hand over where to open a rule set, be it a tree, a cdb or a text; what is wrong with it becomes a Failure."""

    def left_out(number: int) -> None:
        log("s6-accessrules", "warning", f"{shown(path)}: {count(number, 'expired rule')} left out")

    with reading(path), compiled(path, left_out) as place:
        yield place


def load(path: bytes, progress: Progress = silent) -> LoadedRules:
    """Read a whole rule set.  Raises Failure."""
    with rules_at(path) as place:
        return LoadedRules.load(place, progress=progress)


def refuse_overwriting(source: bytes, out: bytes) -> None:
    """Raise UsageError if a file is to take the place of what it is made of."""
    with contextlib.suppress(OSError):
        if os.path.samefile(source, out):
            raise UsageError(f"{shown(out)} cannot take the place of what it is made of")


def write_whole(path: bytes, contents: bytes, widest: int) -> None:
    """Write a file beside the old one and let it take its place, or leave all as it was.  Raises Failure.

    It gets the old one's permissions.  If there is none, the umask tells, and nobody may read it who may not read what
    it is made of, whose permissions are `widest`.  A link is followed.  A signal that ends the process does so when
    this is done.
    """
    with writing(path), DeferredSignals():
        old = _permissions(path)
        with replace_atomically(os.path.realpath(path) if os.path.islink(path) else path) as temporary:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600 | widest & 0o666 if old is None else 0o600), "wb") as file:
                if old is not None:
                    os.fchmod(file.fileno(), old)
                file.write(contents)


def _permissions(path: bytes) -> int | None:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return None


def say(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{printable(text)}\n")


def say_json(answer: Json) -> None:
    """Write an answer to stdout as `json_line` has it."""
    sys.stdout.write(json_line(answer) + "\n")


def json_line(answer: Json) -> str:
    """Return an answer as one line of JSON, with the version of its form in front."""
    return json.dumps({"version": JSON_VERSION, **portable(answer)})


def portable(value: Any) -> Any:
    """Return a value for JSON in which numbers over `MOST_EXACT` are strings of their digits."""
    if isinstance(value, dict):
        return {name: portable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    return str(value) if isinstance(value, int) and value > MOST_EXACT else value


def count(number: int, what: str) -> str:
    """Return a number of things: ``1 rule``, ``2,000 addresses``."""
    plural = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{plural}"


class Table:
    """Rows under headings: drawn by `rich` on a terminal, else in plain columns."""

    def __init__(
        self,
        *headings: str,
        right: Collection[int] = (),
        most: int = MOST_ROWS,
        colours: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`right` are the numbers of the columns that are aligned to the right; only the first `most` rows are shown.

        `colours` are those of cells with these texts, on a terminal.
        """
        self._headings = headings
        self._right = right
        self._most = most
        self._colours = colours
        self._rows: list[list[str]] = []
        self._more = 0

    def add(self, items: Collection[T], cells: Callable[[T], Iterable[object]]) -> None:
        """Add a row for each item, up to `most`.  None is shown as ``-``, numbers in groups of digits."""
        self._rows += [[_cell(cell) for cell in cells(item)] for item in islice(items, self._most)]
        self._more += max(0, len(items) - self._most)

    def show(self) -> None:
        """Write the table to stdout; without rows, nothing."""
        if not self._rows:
            return
        if sys.stdout.isatty():
            self._draw()
        else:
            self._write()
        if self._more:
            say(f"… and {self._more:,} more; --json gives all")

    def _draw(self) -> None:
        """Draw a table, or where the terminal is too narrow for one, each row in lines of a heading and a cell."""
        from rich import box
        from rich.console import Console
        from rich.measure import Measurement
        from rich.table import Table as RichTable
        from rich.text import Text

        console = Console()
        rows = [[Text(cell, self._colours.get(cell, "")) for cell in row] for row in self._rows]
        table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for number, heading in enumerate(self._headings):
            table.add_column(heading, justify="right" if number in self._right else "left")
        for row in rows:
            table.add_row(*row)
        if Measurement.get(console, console.options.update(max_width=_UNBOUNDED), table).maximum > console.width:
            table = RichTable.grid(padding=(0, 2))
            table.add_column(no_wrap=True, style="bold")
            table.add_column(overflow="fold")
            for row in rows:
                if table.row_count:
                    table.add_row()
                for heading, cell in zip(self._headings, row, strict=True):
                    table.add_row(heading, cell)
        console.print(table)

    def _write(self) -> None:
        rows = [list(self._headings), *self._rows]
        widths = self._widths(rows)
        for row in rows:
            wrapped = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
            for line in zip_longest(*wrapped, fillvalue=""):
                cells = [
                    part.rjust(width) if number in self._right else part.ljust(width)
                    for number, (part, width) in enumerate(zip(line, widths, strict=True))
                ]
                sys.stdout.write((" " * _GAP).join(cells).rstrip() + "\n")

    def _widths(self, rows: list[list[str]]) -> list[int]:
        """Return the widths of the columns: those of text so narrow that all fit, through words only if need be."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        wanted = [max(map(len, column)) for column in columns]
        words = [max(len(word) for cell in column for word in cell.split(" ")) for column in columns]
        room = WIDTH - _GAP * (len(columns) - 1)
        for least in (words, [_NARROWEST] * len(columns)):
            for widest in range(WIDTH, 0, -1):
                widths = [
                    width if number in self._right else min(width, max(widest, least[number]))
                    for number, width in enumerate(wanted)
                ]
                if sum(widths) <= room:
                    return widths
        return widths


def _wrapped(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) if len(cell) > width else [cell]


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else printable(str(value))


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show how far long work has come, on stderr if that is a terminal and `rich` is installed."""
    if not os.isatty(2) or os.environ.get("TERM") == "dumb" or find_spec("rich") is None:
        yield silent
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield lambda what, done: status.update(f"{what}: {done:,}")
