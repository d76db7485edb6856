"""One log: its lines, and the clients in them."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from s6tls.accessrules.text import shown
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.logs import stream
from s6tls.audit.logs.clients import FIRST, packed_or_none
from s6tls.audit.logs.formats import FORMATS, document, guessed, named, within_json
from s6tls.audit.logs.jsonrecords import is_document
from s6tls.audit.logs.lines import Expression
from s6tls.audit.logs.stream import LogError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.audit.logs.times import Since

TEXTS = 1 << 18
"""How many different texts of addresses are counted before their counts are handed on."""


class Log:
    """One log, to be read once.

    `format` says what it was taken for; it is empty for an empty log.  When the log has been read, `lines` says how
    many lines it has, `unread` how many of them have no address, and `sample` the first text that stood in the place
    of one.
    """

    def __init__(
        self,
        path: bytes,
        format: str | None = None,
        field: str | None = None,
        *,
        expression: bytes | None = None,
        forwarded: int = FIRST,
        since: Since | None = None,
        progress: Progress = silent,
    ) -> None:
        """Open a log, gzip and zstd included; ``-`` is stdin.

        `format` is one of `FORMATS`; without one, it is guessed.  `field` names the key in JSON (a dotted path into
        objects, if need be) or the column, by its heading or its number.  `expression` is a regular expression whose
        group ``client`` is the client, instead of a format.  `forwarded` is the index of the client in a list such as
        X-Forwarded-For has, from its end if negative.  `since` leaves lines out.

        Raises ValueError if the expression is none, LogError if no format fits the log, or several do with different
        clients, and OSError.
        """
        self.lines = 0
        self.unread = 0
        self.sample = b""
        self._progress = progress
        self._field, self._which = field, forwarded
        is_guess = format is None and expression is None
        pieces = stream.pieces(path, stream.HEAD if is_guess else 1)
        head = next(pieces, b"")
        whole = chain([head] if head else [], pieces)
        if format in (None, "json") and expression is None and is_document(head):
            if since is not None:
                raise LogError("a JSON document: only lines can be left out by their times")
            self.format, self._words = document(whole, field, forwarded)
            return
        chunks = stream.line_chunks(whole)
        if since is not None:
            chunks = since.filtered(chunks)
        if expression is not None:
            self.format, self._words = Expression.name, Expression(expression, forwarded).read(chunks)
        else:
            self.format, self._words = self._guess(chunks) if format is None else self._named(format, chunks)

    def addresses(self) -> Iterator[bytes]:
        """Yield the address of each line that has one, packed, in order.

        Raises LogError, also if there are lines and none has an address, and OSError.
        """
        known: dict[bytes, bytes | None] = {}
        for words in self._counted():
            for word in words:
                if word not in known:
                    if len(known) >= TEXTS:
                        known.clear()
                    known[word] = packed_or_none(word)
                packed = known[word]
                if packed is None:
                    self._pass_over(word, 1)
                else:
                    yield packed
        self._refuse_nothing()

    def hits(self, texts: int = TEXTS) -> Iterator[tuple[bytes, int]]:
        """Yield addresses, packed, and how many lines have them.

        In bounded memory: when more than `texts` different ones have been seen, counting starts anew, so that
        an address may come more than once.  Raises LogError, also if there are lines and none has an address, and
        OSError.
        """
        counter: Counter[bytes] = Counter()
        for words in self._counted():
            counter.update(words)
            if len(counter) > texts:
                yield from self._fold(counter)
                counter.clear()
        yield from self._fold(counter)
        self._refuse_nothing()

    def _named(self, format: str, chunks: Iterator[bytes]) -> tuple[str, Iterator[list[bytes]]]:
        reader = named(format, self._field, self._which)
        first = next(chunks, None)
        if first is None:
            return format, iter(())
        reader = within_json(first, reader, self._field, self._which)
        return reader.name, reader.read(chain([first], chunks))

    def _guess(self, chunks: Iterator[bytes]) -> tuple[str, Iterator[list[bytes]]]:
        """Read on until lines have a client in some format; those before count as lines without an address."""
        for chunk in chunks:
            few = chunk[: max(chunk.rfind(b"\n", 0, stream.HEAD), 0)] if len(chunk) > stream.HEAD else b""
            reader = (few and guessed(few, self._field, self._which)) or guessed(chunk, self._field, self._which)
            if reader is not None:
                return reader.name, reader.read(chain([chunk], chunks))
            self.lines += chunk.count(b"\n") + 1
            self.unread = self.lines
        if self.lines:
            tried = "json, csv, columns, w3c" if self._field is not None else ", ".join(FORMATS)
            raise LogError(f"no client in its lines, {self.lines:,} in all (tried {tried})")
        return "", iter(())

    def _counted(self) -> Iterator[list[bytes]]:
        for words in self._words:
            self.lines += len(words)
            self._progress("lines read", self.lines)
            yield words

    def _fold(self, counter: Counter[bytes]) -> Iterator[tuple[bytes, int]]:
        for word, number in counter.items():
            packed = packed_or_none(word)
            if packed is None:
                self._pass_over(word, number)
            else:
                yield packed, number

    def _pass_over(self, word: bytes, number: int) -> None:
        self.unread += number
        self.sample = self.sample or word

    def _refuse_nothing(self) -> None:
        if 0 < self.lines == self.unread:
            such = f'; "{shown(self.sample)}" is no address' if self.sample else ""
            raise LogError(f"no client in its lines, {self.lines:,} in all, read as {self.format}{such}")
