"""What a client and a program do in a simulated session, as data.

`meaning` is the model's half that concerns the client: what each thing that it says means to a server, whatever the
server's code is.  It follows RFC 5246 and RFC 8446, and where they leave it open, OpenSSL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from OpenSSL import SSL

from tests.support.tls.sealing import ALERT, DATA, HANDSHAKE, LARGEST, Records

CLOSE_NOTIFY, USER_CANCELED, NO_RENEGOTIATION = 0, 90, 100
ALERTS: tuple[int, ...] = (0, *range(10, 120), 120, 255)
_NO_TYPE = 99
WARNING, FATAL = 1, 2
MOST_WARNINGS, MOST_EMPTY = 4, 32
FOREVER = 1e9
STALL_TIMEOUT = 30.0
"""Seconds after which a session looks whether a client takes anything."""

End = Literal["", "close_notify", "alert", "broken"]
"""How a client's bytes end by themselves: not at all, in order, by an alert of its own, by what it may not send."""


@dataclass(frozen=True)
class Say:
    """The client says something: `what` with a number of bytes or times, or an alert of a `level`."""

    what: Literal["data", "empty", "alert", "keys", "renegotiation", "bad", "unexpected", "junk", "half"]
    number: int = 1
    level: int = WARNING


@dataclass(frozen=True)
class Do:
    """The client does something else.

    It ends its output, resets or closes the connection, stalls (reads nothing) for some seconds, idles (but reads),
    waits for our end for so long at most, stops reading, or reads again.
    """

    what: Literal["end", "reset", "close", "stall", "idle", "wait", "stop reading", "read"]
    seconds: float = 0


Act = Say | Do


@dataclass(frozen=True)
class Step:
    """What the program does next; the number is of bytes or seconds.  In the end it exits."""

    what: Literal["read", "write", "echo", "pause", "close input", "close output"]
    number: float = FOREVER


@dataclass(frozen=True)
class Plan:
    """A whole sequence.

    `cut` is how many bytes of its handshake the client sends, if not all.  An `eager` program does not wait for the end
    of the handshake.  With `sockets` it has one socket instead of two pipes.  Capacities are those of the kernel's
    buffers; `grain` is about how many bytes move at once, and `paces` are how often each of those that move things have
    a turn: see `simulate.World`.  The call number `fault` of the session fails.
    """

    version: int = SSL.TLS1_3_VERSION
    close_notify: bool = False
    demand: bool = False
    client: tuple[Act, ...] = ()
    program: tuple[Step, ...] = ()
    minds_sigpipe: bool = True
    eager: bool = False
    sockets: bool = False
    cut: int = 1 << 30
    timeout: float = 30
    capacities: tuple[int, int, int, int, int] = (65536,) * 5
    grain: int = 1 << 20
    paces: tuple[int, int, int, int, int, int] = (1,) * 6
    order: int = 0
    fault: int = 0
    error: type[Exception] = field(default=MemoryError)

    def __post_init__(self) -> None:
        assert min(self.capacities) > 0 and min(self.paces) > 0


class Meaning:
    """What a client's bytes mean, as far as they have arrived."""

    def __init__(self, version: int) -> None:
        self._old = version == SSL.TLS1_2_VERSION
        self._marks: list[tuple[int, int, End]] = []
        self._warnings = self._empty = 0
        self.said = self.valid = 0
        self.end: End = ""

    def part(self, size: int) -> None:
        """The client has said so many bytes that mean nothing by themselves."""
        self.said += size

    def record(self, kind: int, content: bytes, size: int) -> None:
        """The client has said a well-formed record of so many bytes."""
        self._empty = 0 if content else self._empty + 1
        if content and kind != ALERT:
            self._warnings = 0
        if self._empty > MOST_EMPTY:
            self.breaks(size)
        elif kind == ALERT:
            self._note(size, self._alert(*content))
        else:
            self._note(size, "", len(content) if kind == DATA else 0)

    def _alert(self, level: int, description: int) -> End:
        if level == WARNING if self._old else description in (CLOSE_NOTIFY, USER_CANCELED):
            counts = self._old or description == USER_CANCELED
            self._warnings += counts
            if self._warnings > MOST_WARNINGS:
                return "broken"
            if description == CLOSE_NOTIFY:
                return "close_notify"
            return "broken" if self._old and description == NO_RENEGOTIATION else ""
        return "alert"

    def renegotiates(self, size: int) -> None:
        """The client has said a ClientHello: TLS 1.2 answers by a warning, TLS 1.3 knows no such thing."""
        if self._old:
            self.record(HANDSHAKE, b"ClientHello", size)
        else:
            self.breaks(size)

    def breaks(self, size: int) -> None:
        """The client has said something of so many bytes that is no record, or must not come now."""
        self._note(size, "broken")

    def _note(self, size: int, end: End, valid: int = 0) -> None:
        self.said += size
        if not self.end:
            self.valid += valid
            self.end = end
            self._marks.append((self.said, self.valid, end))

    def of(self, arrived: int, handshake: int) -> tuple[int, End, bool]:
        """Return how many bytes are valid of those that have arrived, how they end, and whether within a record."""
        valid, whole = 0, arrived == handshake
        found: End = ""
        for position, valid_there, end in self._marks:
            if position > arrived:
                break
            valid, found, whole = valid_there, end, position == arrived
        return valid, found, not (whole or found)


def say(act: Say, records: Records, meaning: Meaning, content: Callable[[int], bytes], hello: bytes) -> bytes:
    """Return an act's bytes, and tell the model what they mean.

    `content` makes that of data, `hello` is a ClientHello.
    """
    said: list[bytes] = []

    def add(kind: int, content: bytes) -> None:
        record = records.record(kind, content)
        meaning.record(kind, content, len(record))
        said.append(record)

    match act.what:
        case "data":
            data = content(act.number)
            for start in range(0, max(1, len(data)), LARGEST):
                add(DATA, data[start : start + LARGEST])
        case "empty":
            for _ in range(act.number):
                add(DATA, b"")
        case "alert":
            add(ALERT, bytes([act.level, act.number]))
        case "keys":
            for _ in range(act.number):
                said.append(records.request_keys())
                meaning.record(HANDSHAKE, b"key update", len(said[-1]))
        case "renegotiation":
            for _ in range(act.number):
                said.append(records.record(HANDSHAKE, hello))
                meaning.renegotiates(len(said[-1]))
        case "bad":
            record = records.data(bytes(min(act.number, LARGEST)))
            said.append(record[:-1] + bytes([record[-1] ^ 1]))
            meaning.breaks(len(record))
        case "unexpected":
            said.append(records.record(_NO_TYPE, b"what?"))
            meaning.breaks(len(said[-1]))
        case "junk":
            said.append(b"GET / HTTP/1.1\r\n".ljust(act.number, b"x")[: act.number])
            meaning.breaks(5)
            meaning.part(act.number - 5)
        case "half":
            said.append(records.data(bytes(act.number))[: act.number])
            meaning.part(act.number)
    return b"".join(said)
