"""Formats of which each line is for itself, and a regular expression finds the client.

An expression knows the whole line as far as other formats could be like it; it matches behind the envelope of a line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from s6tls.audit.logs.clients import LONGEST, chosen, each_chosen
from s6tls.audit.logs.envelopes import ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Reader(Protocol):
    """A format, ready to read a log."""

    @property
    def name(self) -> str:
        """What the log was taken for."""

    def read(self, chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Take many lines at a time; yield, for each line or record, what stands where the address should be.

        It is empty where nothing does.  Raises LogError.
        """


class LineReader(Reader, Protocol):
    """A format of which each line is for itself."""

    def clients(self, chunk: bytes) -> list[bytes]:
        """Return what stands where the client should be, for each of these lines."""


class Lines:
    """A format of lines; its expression has the one group ``client``."""

    def __init__(self, name: str, pattern: bytes, which: int | None = None, before: bytes = ENVELOPE) -> None:
        """`which` is the index in a list of clients, if the format has lists.  `before` is what lines begin with."""
        self.name = name
        self._which = which
        self._every_line = re.compile(rb"^(?:%s%s|).*" % (before, pattern), re.MULTILINE)

    def clients(self, chunk: bytes) -> list[bytes]:
        """Return what stands where the client should be, for each of these lines."""
        found: list[bytes] = self._every_line.findall(chunk)
        return found if self._which is None else each_chosen(found, self._which)

    def read(self, chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Yield the client of each line."""
        return map(self.clients, chunks)


class Expression:
    """Whatever a regular expression with the group ``client`` finds in a line."""

    name = "regex"

    def __init__(self, pattern: bytes, which: int) -> None:
        """Raises ValueError if this is no regular expression with this group."""
        try:
            self._expression = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(str(error)) from error
        if "client" not in self._expression.groupindex:
            raise ValueError("it has no group (?P<client>...)")
        self._which = which

    def read(self, chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Yield the client of each line."""
        for chunk in chunks:
            yield [self._client(line) for line in chunk.split(b"\n")]

    def _client(self, line: bytes) -> bytes:
        found = self._expression.search(line)
        return chosen(found["client"] or b"", self._which) if found else b""


_ADDRESS = rb"[\dA-Fa-f]*[.:][\dA-Fa-f.:]*"
_WORD = rb"(?P<client>\S{1,%d}+)" % LONGEST
_LIST = rb"(?P<client>\S{1,%d}+(?>(?:(?<=,) \S{1,%d}+){0,7}))" % (LONGEST, LONGEST)
# Behind the client: its name by IDENT, which is no address, and its user, who may have blanks if there is no IDENT.
_ACCESS = _LIST + rb" (?:- - |- [^\[\n]++|(?!%s )\S++ \S++ )\[\d{2,4}[/-]" % _ADDRESS
_VIRTUAL_HOST = rb"(?:(?:\[[^\]\s]++\]|[^\s:\[\]]++):\d{1,5}|(?!%s )[^\s:,]++) " % _ADDRESS
_DATE = rb"\d\d/[A-Z][a-z]{2}/\d{4}:[\d:.]+"
_END = rb"[ \t\r]*$"

PLAIN = rb"(?P<client>\S{0,%d}+)" % LONGEST

WHOLE_LINES: dict[str, bytes] = {
    "s6": rb"(?:\S+: (?>(?:pid \d++: )?))?info: (?:allow|deny) pid \d++ ip " + _WORD + rb"(?: rule |[ \t\r]*$)",
    "tcpserver": rb"(?:[^\s:]++: )*(?:ok|deny) \d++ \S+ [^\s:]*:(?P<client>\S{1,%d}?):[^\s:]*:\d{1,5}" % LONGEST + _END,
    "common": _ACCESS,
    "vhost_combined": _VIRTUAL_HOST + _ACCESS,
    "haproxy": rb"(?:Connect from )?(?P<client>\S{1,%d}?):\d{1,5}(?: to \S+:\d{1,5} \(| \[%s\] \S)" % (LONGEST, _DATE),
}
"""Formats that no line of another one has the form of, in the order in which they are named."""

LISTS = ("common", "vhost_combined")
"""Those of them in which a list of clients may stand instead of one."""


def plain() -> Lines:
    """Return the format whose client is the first word of a line."""
    return Lines("plain", PLAIN)


def whole_line(name: str, which: int) -> Lines:
    """Return one of `WHOLE_LINES`."""
    return Lines(name, WHOLE_LINES[name], which if name in LISTS else None)
