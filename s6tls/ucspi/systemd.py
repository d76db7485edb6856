"""systemd's protocols for services: socket activation (sd_listen_fds) and notification (sd_notify).

``LISTEN_PID`` and ``LISTEN_FDS`` announce a listening socket on descriptor 3; ``NOTIFY_SOCKET`` names the socket on
which the server says that it is ready.  s6 needs neither: its notification is the line that ``-1`` writes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Mapping

from s6tls.ucspi import listen

VARIABLES = (b"LISTEN_PID", b"LISTEN_FDS", b"LISTEN_FDNAMES", b"NOTIFY_SOCKET")
"""Meant for the server alone; programs do not see them."""

_FIRST_FD = 3
_PR_SET_CHILD_SUBREAPER = 36


def listen_fds(env: Mapping[bytes, bytes]) -> socket.socket | None:
    """Return the listening socket that systemd passed to this process; None when it passed none.

    Raises ValueError when it is not one listening TCP socket, OSError when descriptor 3 is no socket.
    """
    if env.get(b"LISTEN_PID") != b"%d" % os.getpid():
        return None
    if env.get(b"LISTEN_FDS") != b"1":
        raise ValueError("not one socket")
    return listen.inherited(_FIRST_FD)


def notify(env: Mapping[bytes, bytes], state: str) -> None:
    """Tell the service manager about our state, if it wants to know.  A manager that does not listen is not missed."""
    path = env.get(b"NOTIFY_SOCKET", b"")
    if path[:1] not in (b"/", b"@"):
        return
    address = b"\0" + path[1:] if path.startswith(b"@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), address)


def adopt_orphans() -> None:
    """Become a child subreaper (prctl(2)), so that orphaned descendants are reaped here."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
