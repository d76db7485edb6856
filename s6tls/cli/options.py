"""Options as data: one table per command drives its parser and its usage line.

The parser does what POSIX getopt does: it stops at the first word that is not
an option, so that a program's own options, which follow on the same command
line, are left alone.  Long options are those of the reference; they take their
value as ``--name=value`` or in the next word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


class UsageError(Exception):
    """The command line is wrong; the message says how.  Programs exit 100."""


@dataclass(frozen=True)
class Option:
    """One option: its letter (or "" when it has only a long name), long names, value's name, and one line of help.

    `value` is None for a flag.
    """

    letter: str
    long: tuple[str, ...]
    value: str | None
    help: str

    @property
    def name(self) -> str:
        """What the parser's answer calls this option: its letter, or its first long name."""
        return self.letter or self.long[0]


@dataclass(frozen=True)
class Synopsis:
    """A command's name, its options and the words that follow them (such as ``ip port prog...``)."""

    program: str
    options: tuple[Option, ...]
    words: str

    def usage(self) -> str:
        """Return the one-line usage message."""
        shown = [f"[ -{o.letter}{' ' + o.value if o.value else ''} ]" for o in self.options if o.letter]
        shown += [f"[ --{o.long[0]}{'=' + o.value if o.value else ''} ]" for o in self.options if not o.letter]
        return " ".join([self.program, *shown, self.words])

    def help(self) -> str:
        """Return what ``--help`` prints: the usage line, then a line for each option."""
        lines = [f"usage: {self.program} [ options ] {self.words}", ""]
        for option in self.options:
            names = ([f"-{option.letter}"] if option.letter else []) + [f"--{name}" for name in option.long]
            lines.append(f"  {', '.join(names)}{' ' + option.value if option.value else ''}\n      {option.help}")
        return "\n".join(lines) + "\n"

    def parse(self, argv: Sequence[bytes]) -> tuple[list[tuple[str, bytes]], list[bytes]]:
        """Split `argv` (without the program's name) into (name, value) pairs, in order, and the words after them.

        A flag's value is b"".  Raises UsageError for an unknown option, a missing or an unwanted value.
        """
        return _Parser(self.options).parse(argv)


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
            if not word.startswith(b"-") or word == b"-":
                return found, [word, *words]
            parse = self._parse_long if word.startswith(b"--") else self._parse_letters
            found.extend(parse(word, words))
        return found, []

    def _parse_long(self, word: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
        text, equals, value = word[2:].partition(b"=")
        shown = text.decode("ascii", "backslashreplace")
        option = self._long.get(shown)
        if option is None:
            raise UsageError(f"unrecognized option: --{shown}")
        if option.value is None and equals:
            raise UsageError(f"option takes no value: --{shown}")
        if option.value is not None and not equals:
            value = _next_word(rest, f"--{shown}")
        yield option.name, value

    def _parse_letters(self, word: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
        for i in range(1, len(word)):
            shown = word[i : i + 1].decode("ascii", "backslashreplace")
            option = self._letters.get(shown)
            if option is None:
                raise UsageError(f"unrecognized option: -{shown}")
            if option.value is None:
                yield option.name, b""
            else:
                yield option.name, word[i + 1 :] or _next_word(rest, f"-{shown}")
                return


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
        shown = value.decode("ascii", "backslashreplace")
        raise UsageError(f"invalid value for {name}: {shown} (expected {lowest} to {highest})")
    return int(value)
