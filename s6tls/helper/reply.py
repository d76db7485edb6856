"""Replies: what an unprivileged process tells the chain about a connection, variables or a refusal.

Untrusted input (TLS, DNS answers, IDENT answers, PROXY headers) is parsed in unprivileged processes.  Such a process
says what it found in one reply on a pipe: NUL-terminated ``NAME=value`` strings and one more NUL.  A refusal has a
single string ``!CODE MESSAGE``.  End of file without a reply means that the process has ended.

Every byte of a value may come from a stranger, or from a process that a stranger has taken over: the reader of a
reply takes only the names it expects, and bounded values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.image import Deadline, StageExit

LARGEST = 65536
"""The most bytes of a reply, its final NUL included: what an empty pipe takes without waiting."""


def encode(values: Mapping[bytes, bytes]) -> bytes:
    """Return the reply with these variables; the values have no NUL."""
    strings = [name + b"=" + value for name, value in values.items()]
    return b"\0".join(strings) + b"\0\0"


def refusal(code: int, message: str) -> bytes:
    """Return the reply that ends the connection."""
    return b"!%d %b\0\0" % (code, message.encode("ascii", "backslashreplace")[:1000].replace(b"\0", b""))


def parse(data: bytes, names: Collection[bytes]) -> dict[bytes, bytes]:
    """Read a complete reply, in which only these `names` may be set.

    Raises ValueError for a malformed reply, RefusalReply for one that refuses.
    """
    if not data.endswith(b"\0\0") or len(data) > LARGEST:
        raise ValueError("malformed reply")
    found = {}
    body = data[:-2]
    for entry in body.split(b"\0") if body else ():
        if entry.startswith(b"!"):
            code, _, message = entry[1:].partition(b" ")
            if code.isdigit() and len(code) <= 3 and 0 < int(code) < 256:
                raise RefusalReply(int(code), message.decode("ascii", "backslashreplace"))
        name, equals, value = entry.partition(b"=")
        if not equals or name not in names:
            raise ValueError("malformed reply")
        found[name] = value
    return found


class RefusalReply(Exception):
    """A reply that ends the connection with exit code `code`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Answers(NamedTuple):
    """What is done when a reply comes, or does not.

    `take` gets the variables.  When the process ends without a reply, `gone` returns
    the exit code.  The process has then logged why, or else `gone` raises StageExit to say so.  `refuse` makes a
    StageExit of a refusal.  A process that has more to tell after its reply tells `keep`: that gets the descriptor,
    to own it, and what has come after the reply.
    """

    take: Callable[[dict[bytes, bytes]], None]
    gone: Callable[[], int]
    refuse: Callable[[RefusalReply], StageExit] | None = None
    keep: Callable[[int, bytes], None] | None = None


class Reply:
    """A `Waiting` for the reply that comes on the descriptor `fd`; only variables in `names` are allowed."""

    def __init__(
        self, fd: int, program: str, names: Collection[bytes], answers: Answers, deadline: Deadline | None = None
    ) -> None:
        self.fd, self.deadline = fd, deadline
        self._program, self._names = program, names
        self._take, self._gone, refuse, self._keep = answers
        self._refuse = refuse or self._refusal
        self._is_kept = False
        self._data = b""

    def resume(self) -> bool:
        """Read; tell whether the reply is complete and taken.  Raises StageExit."""
        try:
            data = os.read(self.fd, LARGEST)
        except BlockingIOError:
            return False
        self._data += data
        if not data:
            raise StageExit(self._program, self._gone())
        said, end, more = self._data.partition(b"\0\0")
        if not end and len(self._data) <= LARGEST:
            return False
        variables: dict[bytes, bytes] = {}
        try:
            variables = parse(said + end, self._names)
        except RefusalReply as refused:
            raise self._refuse(refused) from refused
        except ValueError as error:
            message = f"unable to understand a helper process: {error}"
            raise StageExit(self._program, ExitCode.SYSTEM, message) from error
        finally:
            if self._keep is not None:
                self._is_kept = True
                self._keep(self.fd, more)
        self._take(variables)
        return True

    def close(self) -> None:
        """Stop listening."""
        if not self._is_kept:
            os.close(self.fd)

    def _refusal(self, refused: RefusalReply) -> StageExit:
        return StageExit(self._program, refused.code, str(refused))
