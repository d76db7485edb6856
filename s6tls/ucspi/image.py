"""What a connection carries through the chain, and what a stage may do to it.

A stage is an object with one method, `apply(image)`.  It changes the image in
place and returns None when it is done, or a `Waiting` when it must hear from a
descriptor first; it raises `StageExit` to end the connection.  Who applies the
stages, a command to its own process or the server to each connection, is not
the stage's business.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from s6tls.posix.identity import Identity


SERVER = "s6-tcpserverd"
_NOT_TO_CLOSE = {0, 1, None}


class StageExit(Exception):
    """A stage ends the connection, as a command would by exiting: `program` is its name and `code` the exit code.

    `kind` is the word of the log line ("fatal", "warning", "info") and `message` its text; no
    message means nothing is logged.
    """

    def __init__(self, program: str, code: int, message: str = "", kind: str = "fatal") -> None:
        super().__init__(message)
        self.program, self.code, self.message, self.kind = program, code, message, kind


class ClientFailure(StageExit):
    """A client has failed in something.  A command calls that fatal, for its connection it is; for a server it is not.

    A server has nothing to mend then: it logs this as information.
    """


class Shortage(StageExit):
    """The system has no process or memory to spare for a connection.  Strangers who use them up meet this often."""


SHORTAGES = (errno.EAGAIN, errno.ENOMEM)
"""What fork(2) and posix_spawn(3) fail with then."""


class Deadline(NamedTuple):
    """The moment (of time.monotonic) until which a server waits, and what tells how it ends a connection then.

    `give_up`, if any, lets the image have the client's connection again, so that the server can end it.
    """

    moment: float
    refusal: Callable[[], StageExit]
    give_up: Callable[[], object] | None = None


class Waiting(Protocol):
    """A stage that is not done: call `resume` whenever `fd` is readable, until it returns True.

    `resume` raises StageExit when the connection is to end.  `close` releases `fd`.  A command does not look at the
    `deadline`: whoever it waits for has its own.
    """

    fd: int
    deadline: Deadline | None

    def resume(self) -> bool:
        """Take in what `fd` holds; tell whether the stage is done."""

    def close(self) -> None:
        """Release the descriptor."""


class OpenSession(Protocol):
    """What goes on behind a connection, whether or not its program does: it ends when `resume` returns True.

    Call `resume` when nobody has the other end of `fd` any more.  Then `failure` is what has gone wrong, and `told`
    what the log says of it.  Several times in `silence_s`, unless that is 0, there is something to be taken in before
    that, and `heard`, how many bytes it was, grows: who holds the session shows that it does not hang.
    """

    fd: int
    silence_s: float
    heard: int

    @property
    def failure(self) -> StageExit | None:
        """What has gone wrong: a `ClientFailure`, or a warning."""

    @property
    def traffic(self) -> tuple[int, int]:
        """How many bytes the program got and wrote, as who holds the session says at its end."""

    def resume(self) -> bool | None:
        """Take in what `fd` holds; tell whether the session is over, None if there may be more to take in."""

    def told(self) -> str:
        """Return what the log says of the session's end (see `log.Told`): nothing if there was none."""

    def abandon(self) -> None:
        """End it, since who holds it hangs; that is the `failure` then."""

    def close(self) -> None:
        """Release the descriptor."""


class Stage(Protocol):
    """One link of the chain."""

    @property
    def program(self) -> str:
        """The name it has in log lines."""

    def apply(self, image: Image) -> Waiting | None:
        """Change `image`; return None when done.  Raises StageExit."""


@dataclass(slots=True)
class Image:
    """The next program as it stands: environment, argument words, descriptors, identity.

    `stdin` and `stdout` are descriptors that become 0 and 1; they may be the same one.
    `identity` is None while the ids are the process's own.  `stages` are the links not
    yet applied, `link` names the last one that was.  `path` is the PATH on which the program is
    searched: the one that the last link was started with, not what that link makes of it.
    `on_start` holds (program, tell) log lines to write when the program starts: `tell` makes a
    message of its process id.  `extra` holds the program's other descriptors under the numbers that they have
    there (see `hand`).  `open_files` is its soft limit of descriptors (RLIMIT_NOFILE), None for the process's own.
    `rule` names the rule that let the client in, as the log does; "" if none were asked.
    `network` is the client's connection while others are to be 0 and 1 of the program, and a server may still have to
    end it.  `session` is what counts for the connection beside its program.  `since` is the moment from
    which the client's time counts: of its acceptance, but put off by what it had to wait for us.
    """

    env: dict[bytes, bytes]
    argv: list[bytes]
    stdin: int = 0
    stdout: int = 1
    identity: Identity | None = None
    stages: deque[Stage] = field(default_factory=deque)
    link: str = SERVER
    path: bytes | None = field(init=False)
    on_start: list[tuple[str, Callable[[int], str]]] = field(default_factory=list)
    extra: dict[int, int] = field(default_factory=dict)
    open_files: int | None = None
    rule: str = ""
    network: int | None = None
    session: OpenSession | None = None
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.path = self.env.get(b"PATH")

    def apply_next(self) -> Waiting | None:
        """Apply the next stage; return None when it is done.  Raises StageExit."""
        stage = self.stages.popleft()
        self.link = stage.program
        self.path = self.env.get(b"PATH")
        return stage.apply(self)

    def hand(self, fd: int) -> int:
        """Let the program have a descriptor beyond 0, 1 and 2; return its number there.

        That is the lowest that nothing has which our own starter may have meant for the program.
        Programs that select(2) cannot use high numbers, and a server's are as high as it has clients.
        """
        number = 3
        while number in self.extra or _is_inheritable(number):
            number += 1
        self.extra[number] = fd
        return number

    def replace_rest(self, argv: Iterable[bytes]) -> None:
        """Run `argv` instead of the whole rest of the chain."""
        self.stages.clear()
        self.argv = list(argv)

    def unset(self, names: Iterable[bytes]) -> None:
        """Remove the variables that are there among `names`."""
        for name in names:
            self.env.pop(name, None)

    def close(self) -> None:
        """Close all descriptors but the process's own 0 and 1."""
        for fd in {self.stdin, self.stdout, self.network, *self.extra.values()} - _NOT_TO_CLOSE:
            os.close(fd)  # type: ignore[arg-type]
        self.stdin, self.stdout, self.network = 0, 1, None
        self.extra.clear()


@dataclass(frozen=True)
class Chain:
    """What all connections have in common: environment at the start, stages, the program's words, its open files."""

    env: Mapping[bytes, bytes]
    stages: Sequence[Stage]
    argv: Sequence[bytes]
    open_files: int | None = None

    def image(self, fd: int, env: Mapping[bytes, bytes]) -> Image:
        """Return the image of a connection on `fd`, with variables of its own; `fd` is the image's from now on."""
        stages = deque(self.stages)
        return Image({**self.env, **env}, list(self.argv), fd, fd, stages=stages, open_files=self.open_files)


def peer(env: Mapping[bytes, bytes]) -> str:
    """Return how log lines name the client that variables are about: ADDRESS_PORT, "" if it is not known."""
    proto = env.get(b"PROTO", b"")
    address, port = env.get(proto + b"REMOTEIP", b""), env.get(proto + b"REMOTEPORT", b"")
    return (address + b"_" + port).decode("ascii", "backslashreplace") if address else ""


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False
