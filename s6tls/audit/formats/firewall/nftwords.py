"""The words of nft's language, its statements and blocks, with what ``define`` has given names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from s6tls.audit.formats.entries import Diagnostic, LineError, printable, whole_text

_TOKEN = re.compile(
    r"""(?P<blank>(?:[ \t\r]|\\\n)+)
    | \#(?P<comment>[^\n]*)
    | (?P<end>[\n;])
    | "(?P<string>[^"\n]*)"
    | (?P<mark>[{},()]|[!=<>]=?)
    | (?P<word>(?:[^ \t\r\n;"{},()!=<>\#\\])+)
    """,
    re.VERBOSE,
)
BLOCKS = ("table", "set", "map", "chain", "counter", "flowtable", "quota", "limit", "ct", "secmark", "synproxy")
"""What begins with a name and a block."""
_MOST_WORDS = 20_000_000


@dataclass
class Sentence:
    """Words up to the end of a line, or ``;``, or of a block: where a ``{`` opens that, `block` has what is in it.

    In `words` a string is what its quotes hold, behind a ``"``; `lines` are those of the words.
    """

    line: int
    words: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    block: list[Sentence] | None = None
    comments: list[str] = field(default_factory=list)


class Sentences:
    """Those of a text, and what is wrong.

    All braces in a chain or a set are those of lists, which are words, and so are those behind other words than these.
    """

    def __init__(self, data: bytes) -> None:
        """Read a text."""
        text, self.faults = whole_text(data)
        self.found: list[Sentence] = []
        self.comments: list[str] = []
        self._open: list[tuple[str | None, list[Sentence]]] = [(None, self.found)]
        self._now = Sentence(0)
        self._lists = 0
        self._named: dict[str, list[str]] = {}
        self._count = 0
        try:
            self._read(text)
        except LineError as error:
            self.faults.append(Diagnostic(self._now.line or 1, str(error)))

    def _read(self, text: str) -> None:
        line, end = 1, 0
        while token := _TOKEN.match(text, end):
            kind, end = token.lastgroup or "", token.end()
            if kind == "comment":
                self.comments.append(printable(token["comment"]))
            elif kind == "end":
                if not self._lists:
                    self._finish()
            elif kind == "string":
                self._word(line, f'"{token["string"]}')
            elif kind == "mark":
                self._mark(line, token["mark"])
            elif kind == "word":
                self._word(line, token["word"])
            line += token[0].count("\n")
        self._now.line = self._now.line or line
        if end < len(text):
            raise LineError("a quote that does not end, or another character that has no meaning here")
        self._finish()
        if len(self._open) > 1 or self._lists:
            raise LineError("the text ends within braces")

    def _word(self, line: int, word: str) -> None:
        words = self._named.get(word[1:]) if word[:1] == "$" else [word]
        if words is None:
            raise LineError(f"not defined: {word[:40]}")
        self._count += len(words)
        if self._count > _MOST_WORDS:
            raise LineError("too many words")
        self._now.line = self._now.line or line
        self._now.words += words
        self._now.lines += [line] * len(words)

    def _mark(self, line: int, mark: str) -> None:
        if mark == "{" and (self._lists or self._expects_list()):
            self._lists += 1
        elif mark == "}" and self._lists:
            self._lists -= 1
        elif mark == "{":
            self._begin(line)
            return
        elif mark == "}":
            self._finish()
            if len(self._open) == 1:
                raise LineError("a } too many")
            self._open.pop()
            return
        self._word(line, mark)

    def _expects_list(self) -> bool:
        parent = self._open[-1][0]
        words = self._now.words
        begins = words[1:2] if words[:1] in (["add"], ["create"]) else words[:1]
        return not (parent in (None, "table") and begins and begins[0] in BLOCKS)

    def _begin(self, line: int) -> None:
        block: list[Sentence] = []
        sentence, self._now = self._now, Sentence(0)
        sentence.line, sentence.block = sentence.line or line, block
        self._add(sentence)
        kind = next(word for word in sentence.words if word in BLOCKS)
        self._open.append((kind, block))

    def _finish(self) -> None:
        sentence, self._now = self._now, Sentence(0)
        if not sentence.words:
            return
        if sentence.words[0] == "define" and len(sentence.words) > 3 and sentence.words[2] == "=":
            self._named[sentence.words[1]] = sentence.words[3:]
        else:
            self._add(sentence)

    def _add(self, sentence: Sentence) -> None:
        sentence.comments, self.comments = self.comments, []
        self._open[-1][1].append(sentence)


def listed(sentence: Sentence, start: int) -> list[tuple[int, list[str]]]:
    """Return what stands between the commas of a list that begins with this word: the line and words of each item."""
    items: list[tuple[int, list[str]]] = [(0, [])]
    for word, line in zip(sentence.words[start:], sentence.lines[start:], strict=True):
        if word == ",":
            items.append((0, []))
        elif word not in "{}":
            at, words = items[-1]
            words.append(word)
            items[-1] = at or line, words
    return [item for item in items if item[1]]
