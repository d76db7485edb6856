"""The grammar of nginx's configuration: words, ended by ``;``, or by a ``{`` that a ``}`` closes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from s6tls.audit.formats.entries import Diagnostic, LineError, printable, whole_text

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n]+)
    | \#(?P<comment>[^\n]*)
    | (?P<end>[;{}])
    | "(?P<double>(?:[^"\\]|\\.)*)"(?=[ \t\r\n;{)]|\Z)
    | '(?P<single>(?:[^'\\]|\\.)*)'(?=[ \t\r\n;{)]|\Z)
    | (?P<word>(?:[^ \t\r\n;{}"'\#\\]|\\.)(?:[^ \t\r\n;{\\]|\\.)*)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Directive:
    """Words and what ends them: ``;``, ``{`` or, without any words, ``}``.

    `comments` stand on lines of their own before it, `note` behind it.
    """

    line: int
    words: list[str]
    end: str
    comments: list[str] = field(default_factory=list)
    note: str = ""
    block: list[Directive] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its first word."""
        return self.words[0] if self.words else ""

    def argument(self) -> str:
        """Return the one word behind its name.  Raises LineError."""
        if len(self.words) != 2 or self.end != ";":
            raise LineError(f"not {self.name}, one word and ;")
        return self.words[1]


class Directives:
    """Those of a text, with the comments behind the last one, and what is wrong."""

    def __init__(self, data: bytes) -> None:
        """Read a text."""
        text, self.faults = whole_text(data)
        self.found: list[Directive] = []
        self.trailing: list[str] = []
        self._open = [self.found]
        self._words: list[str] = []
        self._line = 0
        self._ended: tuple[int, list[Directive]] = (0, [])
        self._read(text)
        if self._words or len(self._open) > 1:
            self._fault(self._line or 1, "the file ends within a directive: ; or } is missing")

    def _fault(self, line: int, message: str) -> None:
        self.faults.append(Diagnostic(line, message))

    def _read(self, text: str) -> None:
        line = 1
        end = 0
        while token := _TOKEN.match(text, end):
            kind, end = token.lastgroup or "", token.end()
            if kind == "comment":
                self._comment(line, token["comment"])
            elif kind == "end":
                self._close(line, token["end"])
            elif kind != "blank":
                self._line = self._line if self._words else line
                self._words.append(token[kind])
            line += token[0].count("\n")
        if end < len(text):
            self._fault(line, "a quote that does not end, or with something right behind it")
            self._words.clear()
            del self._open[1:]

    def _comment(self, line: int, text: str) -> None:
        at, directives = self._ended
        if at == line and not self._words:
            for directive in directives:
                directive.note = printable(text)
        else:
            self.trailing.append(printable(text))

    def _close(self, line: int, end: str) -> None:
        if end == "}":
            if self._words or len(self._open) == 1:
                self._fault(line, "unexpected }")
                self._words.clear()
            elif len(self._open) > 1:
                self._open.pop()
            return
        if not self._words:
            self._fault(line, f"unexpected {end}")
        made = Directive(self._line if self._words else line, self._words, end, self.trailing)
        self._words, self.trailing = [], []
        if made.words:
            self._open[-1].append(made)
            at, directives = self._ended
            self._ended = line, [*(directives if at == line else ()), made]
        if end == "{":
            self._open.append(made.block)
