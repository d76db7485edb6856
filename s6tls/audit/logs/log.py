"""One log: its lines, and the clients in them."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.logs import stream
from s6tls.audit.logs.clients import FIRST, packed_or_none
from s6tls.audit.logs.formats import FORMATS, document, guessed, named, within_json
from s6tls.audit.logs.jsonrecords import is_document
from s6tls.audit.logs.lines import Expression
from s6tls.audit.logs.stream import LogError
from s6tls.audit.logs.tally import TEXTS, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.audit.logs.lines import Reader
    from s6tls.audit.logs.times import Since


class Log(Tally):
    """One log, to be read once.

    `format` is known from the start, and the counts when the log has been read.  `reader` is what reads its lines, None
    for a log without any, or one that is a JSON document.
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
        super().__init__()
        self.path = path
        self.reader: Reader | None = None
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
            self.reader = Expression(expression, forwarded)
        elif format is None:
            chunks = self._guess(chunks)
        else:
            chunks = self._name(format, chunks)
        self.format = self.reader.name if self.reader else ""
        self._words = self.reader.read(chunks) if self.reader else iter(())

    def addresses(self) -> Iterator[bytes]:
        """Yield the address of each line that has one, packed, in order.

        Raises LogError, also if there are lines and none has an address, and OSError.
        """
        known: dict[bytes, bytes | None] = {}
        for words in self.counted(self._words):
            for word in words:
                if word not in known:
                    if len(known) >= TEXTS:
                        known.clear()
                    known[word] = packed_or_none(word)
                packed = known[word]
                if packed is None:
                    self.pass_over(word, 1)
                else:
                    yield packed
        self.refuse_nothing()

    def hits(self, texts: int = TEXTS) -> Iterator[tuple[bytes, int]]:
        """Yield addresses, packed, and how many lines have them, as `hits_in` does.

        Raises LogError, also if there are lines and none has an address, and OSError.
        """
        yield from self.hits_in(self._words, texts)
        self.refuse_nothing()

    def _name(self, format: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Take the format that is named, which may be one within JSON; return what is to be read in it."""
        self.reader = named(format, self._field, self._which)
        first = next(chunks, None)
        if first is None:
            return iter(())
        self.reader = within_json(first, self.reader, self._field, self._which)
        return chain([first], chunks)

    def _guess(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Read on until lines have a client in some format; those before count as lines without an address.

        Return what is to be read in that format.
        """
        for chunk in chunks:
            few = chunk[: max(chunk.rfind(b"\n", 0, stream.HEAD), 0)] if len(chunk) > stream.HEAD else b""
            reader = (few and guessed(few, self._field, self._which)) or guessed(chunk, self._field, self._which)
            if reader is not None:
                self.reader = reader
                return chain([chunk], chunks)
            self.lines += chunk.count(b"\n") + 1
            self.unread = self.lines
        if self.lines:
            tried = "json, csv, columns, w3c" if self._field is not None else ", ".join(FORMATS)
            raise LogError(f"no client in its lines, {self.lines:,} in all (tried {tried})")
        return iter(())

    def counted(self, batches: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
        """Do as a tally does, and tell of progress."""
        for words in super().counted(batches):
            self._progress("lines read", self.lines)
            yield words
