"""What a server does with its chain ahead of the first client: it goes the way of a client whom no rule concerns.

What such a client would meet in any case is met now, and keeps the server from starting: a rule set that cannot be
opened, a key that does not load, ids that cannot be taken, a program that is not there.  Rules may set variables of
their own; so what is merely missing in the environment may still be set right by one of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from s6tls.accessrules.text import shown
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.process import search
from s6tls.ucspi.image import SERVER, Stage, StageExit
from s6tls.ucspi.log import Log


@dataclass
class Preparation:
    """How far the chain has been prepared.

    `env` is the environment as the stages before leave it.  With `ruled`, a rule may have changed it.
    """

    env: dict[bytes, bytes]
    log: Log
    ruled: bool = False

    def lacks(self, missing: StageExit) -> None:
        """Take note of what is missing in the environment: a warning where a rule may set it, else it is raised."""
        if not self.ruled:
            raise missing
        Log(missing.program, self.log.verbosity).warning(f"{missing}: only clients whose rule sets it are served")


@runtime_checkable
class Preparing(Protocol):
    """A stage that has something to do ahead of the first client."""

    def prepare(self, preparation: Preparation) -> None:
        """Get ready for clients.  Raises StageExit for what can never work."""


@runtime_checkable
class Rereading(Protocol):
    """A stage that has files of which the operator may ask how they are now."""

    def reread(self) -> None:
        """Read them anew, and log that they are good.  Raises StageExit, as for clients, when they are not."""


def prepare(stages: Sequence[Stage], argv: Sequence[bytes], preparation: Preparation) -> bytes:
    """Let all stages get ready; return the path of the program.  Raises StageExit for the first that can never work."""
    path = preparation.env.get(b"PATH")
    for stage in stages:
        path = preparation.env.get(b"PATH")
        if isinstance(stage, Preparing):
            stage.prepare(preparation)
    return find_program(argv[0], path)


def find_program(word: bytes, path: bytes | None) -> bytes:
    """Return the path of the program that this word names, with this PATH.  Raises StageExit (126, 127)."""
    try:
        found = search(word, path)
        if os.path.isdir(found):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.stat(found)
        if not os.access(found, os.X_OK):
            raise PermissionError(errno.EACCES, f"{os.strerror(errno.EACCES)}: make it executable (chmod +x)")
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        searched = f" (PATH is {shown(path)})" if b"/" not in word and path is not None else ""
        remedy = f": install it, or correct its name{searched}" if missing else ""
        why = getattr(error, "strerror", None) or error
        message = f"unable to find the program {shown(word)}: {why}{remedy}"
        raise StageExit(SERVER, ExitCode.NOT_FOUND if missing else ExitCode.NOT_EXECUTABLE, message) from error
    return found
