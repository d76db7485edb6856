"""Options as data: one table per command drives its parser and its usage line.

The parser does what POSIX getopt does: it stops at the first word that is not
an option, so that a program's own options, which follow on the same command
line, are left alone.  Long options are those of the reference; they take their
value as ``--name=value`` or in the next word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from s6tls.accessrules.text import shown


class UsageError(Exception):
    """The command line is wrong; the message says how, `synopsis` whose words they are.  Programs exit 100."""

    def __init__(self, message: str = "", synopsis: Synopsis | None = None) -> None:
        super().__init__(message)
        self.synopsis = synopsis


@dataclass(frozen=True)
class Option:
    """One option: its letter (or "" when it has only a long name), long names, value's name, and one line of help.

    `value` is None for a flag.  An `alternative` excludes the option before it; the last one given counts, which
    `in_force` finds out.
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


@dataclass(frozen=True)
class Synopsis:
    """A command's name, its options and the words that follow them (such as ``ip port prog...``).

    `commands` are the names of subcommands, for a command that has some, and a line about each.
    """

    program: str
    options: tuple[Option, ...]
    words: str
    commands: tuple[tuple[str, str], ...] = ()

    @property
    def operands(self) -> list[str]:
        """The names of the words before ``prog...``; the parser of a link takes them for options of these names."""
        return self.words.split()[:-1]

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
        """Return what ``--help`` prints: the usage line, then a line for each option."""
        options = "[ options ] " if self.options else ""
        lines = [f"usage: {self.program} {options}{self.words}", ""]
        width = max((len(name) for name, _ in self.commands), default=0)
        lines += [f"  {name:{width}}  {about}" for name, about in self.commands]
        for option in self.options:
            names = ([f"-{option.letter}"] if option.letter else []) + [f"--{name}" for name in option.long]
            lines.append(f"  {', '.join(names)}{' ' + option.value if option.value else ''}\n      {option.help}")
        return "\n".join(lines) + "\n"

    def parse(self, argv: Sequence[bytes]) -> tuple[list[tuple[str, bytes]], list[bytes]]:
        """Split `argv` (without the program's name) into (name, value) pairs, in order, and the words after them.

        A flag's value is b"".  Raises UsageError for an unknown option, a missing or an unwanted value.
        """
        return _Parser(self.options).parse(argv)

    def parse_mixed(self, argv: Sequence[bytes]) -> tuple[list[tuple[str, bytes]], list[bytes]]:
        """Do what `parse` does, but find options behind words too, up to a ``--``.

        For commands that run no other program.
        """
        return _Parser(self.options).parse_mixed(argv)


def in_force(table: Iterable[Option], given: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return those of the parsed options that count: each with its last value, and of alternatives the last one only.

    The options of `table` say which exclude each other; others exclude nothing.
    """
    groups: list[set[str]] = []
    for option in table:
        if not option.alternative:
            groups.append(set())
        groups[-1].add(option.name)
    rivals = {name: group for group in groups for name in group}
    counting: dict[str, bytes] = {}
    for name, value in given:
        for rival in rivals.get(name, ()):
            counting.pop(rival, None)
        counting[name] = value
    return counting


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


def number(name: str, value: bytes, lowest: int = 0, highest: int = 2**32 - 1) -> int:
    """Read an option's value as a plain decimal number.

    Raises UsageError, naming the option, for anything but digits and for a number out of bounds.
    """
    if not (value.isdigit() and len(value) <= 20 and lowest <= int(value) <= highest):
        raise UsageError(f"invalid value for {name}: {shown(value)} (expected {lowest} to {highest})")
    return int(value)


def file_mode(value: bytes) -> int:
    """Read permissions in octal.  Raises UsageError."""
    if not value or len(value) > 5 or value.strip(b"01234567") or int(value, 8) > 0o7777:
        raise UsageError(f"mode is not an octal number up to 7777: {shown(value)}")
    return int(value, 8)
