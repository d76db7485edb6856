"""How an engine waits for the program's command to begin a session (see `s6tls.stages.ucspitlsd`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.reactor import READABLE
from s6tls.tls.ends import Descriptors

if TYPE_CHECKING:
    from s6tls.posix.reactor import Reactor

PROGRAM = "s6-ucspitlsd"
UNRECOGNIZED = "unrecognized command on control socket"
_BAD_COMMAND = ExitCode.USAGE


def await_command(
    reactor: Reactor, fds: Descriptors, begin: Callable[[Descriptors], object], ended: Callable[[int], None]
) -> None:
    """Call `begin`, with the descriptors for the session, when a command comes on `fds.notify`.

    If none ever will, or it is another (`UNRECOGNIZED`), close them all and call `ended` with the exit code: 0 or 100.
    Raises ValueError without `fds.notify`.
    """
    control = fds.notify
    if control is None:
        raise ValueError("nowhere to wait for a command")
    os.set_blocking(control, False)

    def take(_: int) -> None:
        try:
            command = os.read(control, 1)
        except BlockingIOError:
            return
        except OSError:
            command = b""
        reactor.forget(control)
        if command == b"Y":
            os.set_blocking(control, True)
            begin(fds)
        elif command == b"y":
            os.close(control)
            begin(fds._replace(notify=None))
        else:
            fds.close()
            ended(_BAD_COMMAND if command else 0)

    reactor.watch(control, READABLE, take)
