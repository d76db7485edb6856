"""What clients of every library do in a session before they close it, and the program that they speak to.

A session is one of four acts, each with one line that must get to the program and an answer that must get back whole:

- ``line``: the client sends its line and closes at once, while the program reads.
- ``answer``: the client reads a known number of bytes, sends its line then, and closes.
- ``half``: the client sends its line, ends its own direction, reads to the end what is written only then, and closes.
- ``end``: the program answers and exits, so the server ends the session; the client reads to the end and closes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.support.servers import PATIENCE

VERSIONS = ("1.2", "1.3")
SHORT, LONG = 3, 300_000
"""Sizes of answers: one that is there before the client has looked, and one that no buffer holds."""

PROGRAM = (
    *("sh", "-c"),
    """exec 3>&1  # with -S the end of what the program writes is the end of the session
read -r act size
case $act in
line) exec cat >&2 ;;
answer) head -c "$size" /dev/zero; exec cat >&2 ;;
half) cat >&2; exec head -c "$size" /dev/zero ;;
end) read -r line; echo "$line" >&2; exec head -c "$size" /dev/zero ;;
esac""",
)


@dataclass(frozen=True)
class Session:
    """One connection of a client: TLS version, act, size of the answer, and the line, which is a word of its own."""

    version: str
    act: str
    size: int
    line: str

    @property
    def request(self) -> bytes:
        """What the client says first."""
        return f"{self.act} {self.size}\n".encode()


@dataclass(frozen=True)
class Way:
    """A way to close; `polite` if the client says close_notify by it, and the acts that can be closed so."""

    name: str
    polite: bool
    acts: tuple[str, ...] = ("line", "answer", "end")


WITH_HALF = ("line", "answer", "half", "end")

Results = Mapping[str, int | str]
"""How many bytes of its answer the client of each line has read, or what went wrong with it."""

Run = Callable[[int, Way, list[Session]], Results]
"""Hold these sessions with the server on this port, and close each in this way."""


def sessions(way: Way, count: int) -> list[Session]:
    """Return `count` sessions of each version, with acts and sizes in turn."""
    return list(_sessions(way, count))


def _sessions(way: Way, count: int) -> Iterator[Session]:
    for version in VERSIONS:
        for number in range(count):
            turn, place = divmod(number, len(way.acts))
            act = way.acts[place]
            size = 0 if act == "line" else (SHORT, LONG)[turn % 2]
            yield Session(version, act, size, f"{way.name}-{version}-{number}-{act}-{size}")


def connect(port: int) -> socket.socket:
    """Return a connection that sends at once what it is given: a reset would throw away what waits."""
    tcp = socket.create_connection(("127.0.0.1", port), PATIENCE)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tcp


def one_by_one(hold: Callable[[int, Way, Session], int]) -> Run:
    """Make a run out of what holds one session and returns how many bytes of the answer it has read."""

    def run(port: int, way: Way, all: Iterable[Session]) -> Results:
        results: dict[str, int | str] = {}
        for session in all:
            try:
                results[session.line] = hold(port, way, session)
            except OSError as error:
                results[session.line] = str(error)
        return results

    return run
