"""Starting the helper: a process that has nothing of its parent but stderr and a control socket."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterable

from s6tls.helper.serving import serve
from s6tls.posix.descriptors import raise_soft_limit
from s6tls.posix.identity import Identity
from s6tls.posix.jail import Jail, Level, Role, become
from s6tls.posix.process import close_all_but, fork, redirect_to_null
from s6tls.ucspi.log import TEXT, log, use
from s6tls.ucspi.spawn import exits

_FIRST_ID = 0x70000000
"""Above what systems give out to accounts, services and containers."""
_NOBODY = 65534
_NEEDS = {
    "lookup": ("s6tls.helper.lookup", "s6tls.helper.resolver"),
    "proxy": ("s6tls.helper.proxyheader", "google_crc32c"),
}
KINDS = tuple(_NEEDS)
"""The kinds of requests."""


def start(control: socket.socket, kinds: Iterable[str], jail: Level, stderr: int = 2) -> int:
    """Fork a helper for requests of these kinds and return its process id.  Raises OSError.

    Their modules are imported ahead, because the helper may have no right to read the files.
    """
    pid = fork()
    if pid == 0:
        with exits():
            if stderr != 2:  # a pipe to the server, which writes the log
                os.dup2(stderr, 2)
                use(TEXT)
            _let_go_of_all_but(control)
            for module in (module for kind in kinds for module in _NEEDS[kind]):
                importlib.import_module(module)
            if os.geteuid() == 0:
                _take_an_id_of_its_own()
            serve(control, Jail(Role.HELPER, jail, "s6tls"))
    return pid


def start_apart(control: socket.socket, kinds: Iterable[str], jail: Level) -> None:
    """Start a helper that is not our child, for which a program in our place would have to wait.  Raises OSError."""
    pid = fork()
    if pid == 0:
        with exits():
            start(control, kinds, jail)
    os.waitpid(pid, 0)


def _take_an_id_of_its_own() -> None:
    """Run as what no account and no other process is, so that none can send signals to this one, or trace it."""
    own = _FIRST_ID + os.getpid()
    try:
        become(Identity(own, own))
    except OSError as error:
        log("s6tls", "warning", f"unable to give the lookup helper the id {own}: {error.strerror}; it runs as nobody")
        become(Identity(_NOBODY, _NOBODY))


def _let_go_of_all_but(control: socket.socket) -> None:
    """Keep the control socket and stderr: 0 and 1 may be the client."""
    redirect_to_null(0, 1)
    close_all_but({0, 1, 2, control.fileno()})
    raise_soft_limit()
