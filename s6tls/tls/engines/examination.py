"""What a set of TLS parameters is worth: its files are read and judged as a pool does it, and no client is served.

A server that runs has a program of its own do this, as it has for a pool; a check forks a child.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable

from s6tls.accessrules.text import printable
from s6tls.tls.context.oddities import contents, oddities
from s6tls.tls.credentials import PROGRAM, Credentials
from s6tls.tls.ends import Descriptors
from s6tls.tls.engines import engine
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi.log import log, use
from s6tls.ucspi.spawn import exits, try_in_a_child


def main(pickled: bytes) -> None:
    """Log what the files hold, or what is wrong with them."""
    with exits():
        parameters, credentials, form = pickle.loads(pickled)
        use(form)
        _examine(parameters, credentials, lambda line: log(PROGRAM, "info", line))


def _examine(parameters: TlsParameters, credentials: Credentials, tell: Callable[[str], object]) -> None:
    """Raises StageExit, as the start of a pool does."""
    engine.confine_and_load(parameters, credentials)
    for odd in oddities(credentials):
        log(PROGRAM, "warning", odd)
    for line in contents(credentials):
        tell(line)
    if parameters.identity is not None:
        tell(f"TLS engines run as user {parameters.identity.uid} and group {parameters.identity.gid}")


class Examiner:
    """In the place of what starts engines: tells on standard output what the files hold, and starts none."""

    gives_accounts = False

    def prepare(self, parameters: TlsParameters) -> None:
        """Examine parameters.  Raises StageExit, once it is logged what is wrong."""
        credentials = parameters.paths.read()
        try_in_a_child(PROGRAM, lambda: _examine(parameters, credentials, _print))

    def expect_end(self, notified: int) -> None:
        """There are no engines."""

    def submit(self, parameters: TlsParameters, fds: Descriptors, peer: str) -> Callable[[], int]:
        """There are no clients."""
        raise NotImplementedError


def _print(line: str) -> None:
    os.write(1, f"{printable(line)}\n".encode())
