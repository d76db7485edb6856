"""Options as data: one table per command drives its parser, its usage line, its help, and the table on its page.

The parser does what POSIX getopt does: it stops at the first word that is not
an option, so that a program's own options, which follow on the same command
line, are left alone.  Long options are those of the reference; they take their
value as ``--name=value`` or in the next word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from s6tls.accessrules.text import shown

MOST = 2**32 - 1
_LONGEST_STALL_MS = 8 * 3600 * 1000


class UsageError(Exception):
    """The command line is wrong; the message says how, `synopsis` whose words they are.  Programs exit 100."""

    def __init__(self, message: str, synopsis: Synopsis | None = None) -> None:
        super().__init__(message)
        self.synopsis = synopsis


@dataclass(frozen=True)
class Option:
    """One option: its letter (or "" when it has only a long name), long names, value's name, and what it does.

    `value` is None for a flag; where only certain words are taken, it is these words with ``|`` between them.  `help`
    is Markdown of one line, as the command's page has it.  An `alternative` excludes the option before it; the last
    one given counts.
    """

    letter: str
    long: tuple[str, ...]
    value: str | None
    help: str
    alternative: bool = False

    @property
    def name(self) -> str:
        """What the parser's answer calls this option: its letter, or its first long name."""
        return self.letter or self.long[0]

    @property
    def flag(self) -> str:
        """The option as it stands on a command line."""
        return f"-{self.letter}" if self.letter else f"--{self.long[0]}"


JAIL = Option(
    "",
    ("jail",),
    "required|best|none",
    "confine what strangers speak to as far as the system can (`best`, the default), refuse to start where it cannot "
    "(`required`), or let it be (`none`). See [design.md](design.md#the-jail)",
)
UNUSED_VERBOSITY = Option("v", ("verbosity",), "verbosity", "accepted, and without effect")
LOG_FORMAT = Option(
    "",
    ("log-format",),
    "text|json",
    "write log lines as text (the default), or each as a JSON object. See [logs.md](logs.md)",
)
STALL_TIMEOUT = Option(
    "",
    ("stall-timeout",),
    "milliseconds",
    "end a connection whose client takes nothing of what there is for it, or does not close its end, for this long; "
    "0 is never. Default 60000. See [s6-tcpserverd](s6-tcpserverd.md#limits)",
)


@dataclass(frozen=True)
class Synopsis:
    """A command's name, the table of its options, and the words that follow them (such as ``ip port prog...``).

    In the table, a text is the heading of the options after it.  A word in brackets may be left out; ``name...`` stands
    for one word or more.  `commands` are the names of subcommands, or of formats, for a command that has some, and a
    line about each.
    Words beyond the last one are wrong usage, unless the command `ignores_surplus`.
    """

    program: str
    table: tuple[Option | str, ...]
    words: str
    commands: tuple[tuple[str, str], ...] = ()
    ignores_surplus: bool = False

    @property
    def options(self) -> list[Option]:
        """The table without its headings."""
        return [row for row in self.table if isinstance(row, Option)]

    def usage(self) -> str:
        """Return the one-line usage message."""
        groups: list[list[str]] = []
        for option in self.options:
            text = option.flag + (f"{' ' if option.letter else '='}{option.value}" if option.value else "")
            if option.alternative:
                groups[-1].append(text)
            else:
                groups.append([text])
        return " ".join([self.program, *(f"[ {' | '.join(group)} ]" for group in groups), self.words])

    def help(self) -> str:
        """Return what ``--help`` prints: the usage line, then lines for each option."""
        from textwrap import fill

        options = "[ options ] " if self.table else ""
        lines = [f"usage: {self.program} {options}{self.words}", ""]
        width = max((len(name) for name, _ in self.commands), default=0)
        lines += [f"  {name:{width}}  {about}" for name, about in self.commands]
        for row in self.table:
            if isinstance(row, str):
                lines += [*([""] if lines[-1] else []), f"{_without_markup(row)}:"]
                continue
            names = ([f"-{row.letter}"] if row.letter else []) + [f"--{name}" for name in row.long]
            lines.append(f"  {', '.join(names)}{' ' + row.value if row.value else ''}")
            about, indent = _without_markup(row.help), " " * 6
            lines.append(fill(about, 80, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False))
        return "\n".join(lines) + "\n"

    def read(self, argv: Sequence[bytes]) -> Given:
        """Read `argv` (without the program's name) as POSIX does: options, then words.

        Raises UsageError for an unknown option, a missing or an unwanted value, too few or too many words.
        """
        return self._given(*self.parse(argv))

    def read_mixed(self, argv: Sequence[bytes]) -> Given:
        """Do what `read` does, but find options behind words too, up to a ``--``.

        For commands that run no other program.
        """
        return self._given(*_Parser(self.options).parse_mixed(argv))

    def parse(self, argv: Sequence[bytes]) -> tuple[list[tuple[str, bytes]], list[bytes]]:
        """Split `argv` (without the program's name) into (name, value) pairs, in order, and the words after them.

        A flag's value is b"".  Raises UsageError for an unknown option, a missing or an unwanted value.
        """
        return _Parser(self.options).parse(argv)

    def _given(self, pairs: list[tuple[str, bytes]], words: list[bytes]) -> Given:
        """Check the number of words.  Raises UsageError."""
        names = self.words.replace("[ ", "[").replace(" ]", "]").split()
        repeats = bool(names) and names[-1].endswith("...")
        most = len(names) - repeats
        needed = [name for name in names if not name.startswith("[")]
        if len(words) < len(needed):
            missing = needed[len(words)]
            raise UsageError("no program to run" if missing == "prog..." else f"{missing.rstrip('.')} is missing")
        if len(words) > most and not (repeats or self.ignores_surplus):
            raise UsageError(f"one word too many: {shown(words[most])}")
        return Given(self.options, pairs, words[:most], words[most:] if repeats else [])


class Given:
    """What a command line says: of each option its last value, and of options that exclude each other the last one.

    `pairs` are all options as (name, value), in order.  `words` are the words after them; those that ``name...`` at the
    end of the synopsis stands for are not among these, but in `rest`.

    Methods raise KeyError for an option that the command does not have.
    """

    def __init__(
        self, table: Sequence[Option], pairs: Sequence[tuple[str, bytes]], words: list[bytes], rest: list[bytes]
    ) -> None:
        self.pairs, self.words, self.rest = pairs, words, rest
        self._options = {option.name: option for option in table}
        self._counting = _in_force(table, pairs)

    def flag(self, name: str) -> bool:
        """Tell whether the option is given, and none after it that excludes it."""
        return self._options[name].name in self._counting

    @overload
    def value(self, name: str) -> bytes | None: ...
    @overload
    def value(self, name: str, default: bytes) -> bytes: ...
    def value(self, name: str, default: bytes | None = None) -> bytes | None:
        """Return the option's last value, or `default` when it is not given or another one excludes it."""
        return self._counting[name] if self.flag(name) else default

    def values(self, name: str) -> list[bytes]:
        """Return all values of an option that may be repeated."""
        known = self._options[name].name
        return [value for found, value in self.pairs if found == known]

    def last(self, *names: str) -> str | None:
        """Return which of these options was given last, if any."""
        known = [self._options[name].name for name in names]
        return next((name for name in reversed(self._counting) if name in known), None)

    def number(self, name: str, default: int, lowest: int = 0, highest: int = MOST) -> int:
        """Return the option's value as a number, or `default`.  Raises UsageError as the function `number` does."""
        value = self.value(name)
        return default if value is None else number(self._options[name].flag, value, lowest, highest)

    @overload
    def choice(self, name: str) -> str | None: ...
    @overload
    def choice(self, name: str, default: str) -> str: ...
    def choice(self, name: str, default: str | None = None) -> str | None:
        """Return the option's value, or `default`.  Raises UsageError unless it is one of the words that it may be."""
        option, value = self._options[name], self.value(name)
        if value is None:
            return default
        chosen, choices = shown(value), (option.value or "").split("|")
        if chosen not in choices:
            raise UsageError(f"invalid value for {option.flag}: {chosen} (expected {', '.join(choices)})")
        return chosen


def _in_force(table: Sequence[Option], pairs: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return the options that count with their last values, in the order in which they were last given."""
    groups: list[set[str]] = []
    for option in table:
        if not option.alternative:
            groups.append(set())
        groups[-1].add(option.name)
    rivals = {name: group for group in groups for name in group}
    counting: dict[str, bytes] = {}
    for name, value in pairs:
        for rival in rivals[name]:
            counting.pop(rival, None)
        counting[name] = value
    return counting


def _without_markup(text: str) -> str:
    """Return a line of Markdown as people read it: no marks, and of links the text."""
    import re

    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "").replace("**", "")


class _Parser:
    def __init__(self, options: Sequence[Option]) -> None:
        self._letters = {o.letter: o for o in options if o.letter}
        self._long = {name: o for o in options for name in o.long}

    def parse(self, argv: Sequence[bytes]) -> tuple[list[tuple[str, bytes]], list[bytes]]:
        found: list[tuple[str, bytes]] = []
        words = iter(argv)
        for word in words:
            if word == b"--":
                return found, list(words)
            if not _is_option(word):
                return found, [word, *words]
            found.extend(self._parse_option(word, words))
        return found, []

    def parse_mixed(self, argv: Sequence[bytes]) -> tuple[list[tuple[str, bytes]], list[bytes]]:
        found: list[tuple[str, bytes]] = []
        operands: list[bytes] = []
        words = iter(argv)
        for word in words:
            if word == b"--":
                return found, [*operands, *words]
            if _is_option(word):
                found.extend(self._parse_option(word, words))
            else:
                operands.append(word)
        return found, operands

    def _parse_option(self, word: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
        return self._parse_long(word, rest) if word.startswith(b"--") else self._parse_letters(word, rest)

    def _parse_long(self, word: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
        text, equals, value = word[2:].partition(b"=")
        name = shown(text)
        option = self._long.get(name)
        if option is None:
            raise UsageError(f"unrecognized option: --{name}")
        if option.value is None and equals:
            raise UsageError(f"option takes no value: --{name}")
        if option.value is not None and not equals:
            value = _next_word(rest, f"--{name}")
        yield option.name, value

    def _parse_letters(self, word: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
        for i in range(1, len(word)):
            letter = shown(word[i : i + 1])
            option = self._letters.get(letter)
            if option is None:
                raise UsageError(f"unrecognized option: -{letter}")
            if option.value is None:
                yield option.name, b""
            else:
                yield option.name, word[i + 1 :] or _next_word(rest, f"-{letter}")
                return


def _is_option(word: bytes) -> bool:
    return word.startswith(b"-") and word != b"-"


def _next_word(rest: Iterator[bytes], option: str) -> bytes:
    try:
        return next(rest)
    except StopIteration:
        raise UsageError(f"option needs a value: {option}") from None


def number(name: str, value: bytes, lowest: int = 0, highest: int = MOST) -> int:
    """Read an option's value as a plain decimal number.

    Raises UsageError, naming the option, for anything but digits and for a number out of bounds.
    """
    if not (value.isdigit() and len(value) <= 20 and lowest <= int(value) <= highest):
        raise UsageError(f"invalid value for {name}: {shown(value)} (expected {lowest} to {highest})")
    return int(value)


def stall_timeout_ms(given: Given) -> int:
    """Read STALL_TIMEOUT, in milliseconds.  Raises UsageError."""
    return given.number(STALL_TIMEOUT.name, 60_000, 0, _LONGEST_STALL_MS)


def file_mode(given: Given, default: int) -> int:
    """Read -m, permissions in octal.  Raises UsageError."""
    value = given.value("m")
    if value is None:
        return default
    if not value or len(value) > 5 or value.strip(b"01234567") or int(value, 8) > 0o7777:
        raise UsageError(f"mode is not an octal number up to 7777: {shown(value)}")
    return int(value, 8)
