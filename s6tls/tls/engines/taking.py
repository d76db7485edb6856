"""Taking connections from a pool's control socket, each as descriptors in one message."""

from __future__ import annotations

import contextlib
import os
import select
import socket

from s6tls.posix.fdpass import room_for, unpacked
from s6tls.tls.credentials import PROGRAM
from s6tls.tls.ends import CONNECTION, Descriptors
from s6tls.ucspi.log import log

_DESCRIPTORS = len(Descriptors._fields)
_ROOM = room_for(_DESCRIPTORS)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)


def await_connection(control: socket.socket, leave: int) -> list[int] | None:
    """Return a connection's descriptors, or None when the server has closed the socket, or `leave` has ended.

    The kernel wakes one process for a message.  So whoever leaves looks once more when it can be woken no more.
    """
    with select.epoll() as either:
        either.register(control, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        either.register(leave, select.EPOLLIN)
        while leave not in dict(either.poll()):
            with contextlib.suppress(BlockingIOError):
                return receive(control)
    with contextlib.suppress(BlockingIOError):
        return receive(control)
    return None


def receive(control: socket.socket) -> list[int] | None:
    """Take a connection's descriptors from the control socket, or None when no more come.  Raises OSError."""
    message, ancillary, _, _ = control.recvmsg(len(CONNECTION), _ROOM, _CLOEXEC)
    return unpacked(ancillary) if message else None


def whole(numbers: list[int]) -> Descriptors | None:
    """Return the descriptors of a connection; None if there was no room for all, and then the others are closed."""
    if len(numbers) == _DESCRIPTORS:
        return Descriptors(*numbers)
    for fd in numbers:
        os.close(fd)
    log(PROGRAM, "fatal", "unable to take a connection: too many open files")
    return None
