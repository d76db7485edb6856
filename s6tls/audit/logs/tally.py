"""What reading a log has come to: how many lines, and how many of them had no address."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from s6tls.accessrules.text import shown
from s6tls.audit.logs.clients import packed_or_none
from s6tls.audit.logs.stream import LogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


TEXTS = 1 << 18
"""How many different texts of addresses are counted before their counts are handed on."""


class Tally:
    """The count of a log's lines.

    `format` says what the log was taken for; it is empty for an empty log.  `lines` says how many lines it has,
    `unread` how many of them have no address, and `sample` is the first text that stood in the place of one.
    """

    def __init__(self) -> None:
        self.format = ""
        self.lines = 0
        self.unread = 0
        self.sample = b""

    def hits_in(self, batches: Iterable[list[bytes]], texts: int = TEXTS) -> Iterator[tuple[bytes, int]]:
        """Yield the addresses, packed, that lines have, and how many lines have each.

        In bounded memory: when more than `texts` different texts have been seen, counting starts anew, so that an
        address may come more than once.
        """
        counter: Counter[bytes] = Counter()
        for words in self.counted(batches):
            counter.update(words)
            if len(counter) > texts:
                yield from self.addresses_of(counter.items())
                counter.clear()
        yield from self.addresses_of(counter.items())

    def counted(self, batches: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
        """Yield what stands in the place of an address in each line, many lines at a time; count the lines."""
        for words in batches:
            self.lines += len(words)
            yield words

    def addresses_of(self, words: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
        """Yield the addresses, packed, that texts are, each with its number of lines; count the lines of the others."""
        for word, number in words:
            packed = packed_or_none(word)
            if packed is None:
                self.pass_over(word, number)
            else:
                yield packed, number

    def pass_over(self, word: bytes, number: int) -> None:
        """Count so many lines with this text, which is no address."""
        self.unread += number
        self.sample = self.sample or word

    def clear(self) -> None:
        """Start counting anew."""
        self.lines = self.unread = 0

    def add(self, other: Tally) -> None:
        """Count what another part of the log has come to, too."""
        self.lines += other.lines
        self.unread += other.unread
        self.sample = self.sample or other.sample

    def refuse_nothing(self) -> None:
        """Raise LogError if there are lines, and none has an address."""
        if 0 < self.lines == self.unread:
            such = f'; "{shown(self.sample)}" is no address' if self.sample else ""
            raise LogError(f"no client in its lines, {self.lines:,} in all, read as {self.format}{such}")
