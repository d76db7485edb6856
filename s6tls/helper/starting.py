"""Starting the helper: a program of its own (`s6tls.helper.program`), which has nothing of who starts it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from s6tls.posix import fresh
from s6tls.posix.jail import Level
from s6tls.posix.process import fork
from s6tls.ucspi.log import TEXT, form
from s6tls.ucspi.spawn import exits

_PROGRAM = "s6tls.helper.program"


def start(control: socket.socket, kinds: Iterable[str], jail: Level, stderr: int = 2) -> int:
    """Start a helper for requests of these kinds and return its process id.  Raises OSError.

    Where its stderr is not ours it is a pipe to the server, which writes the log.
    """
    setup = tuple(kinds), jail, form() if stderr == 2 else TEXT
    return fresh.start(_PROGRAM, setup, control.fileno(), stderr=stderr)


def start_apart(control: socket.socket, kinds: Iterable[str], jail: Level) -> None:
    """Start a helper that is not our child, for which a program in our place would have to wait.  Raises OSError."""
    pid = fork()
    if pid == 0:
        with exits():
            start(control, kinds, jail)
    os.waitpid(pid, 0)
