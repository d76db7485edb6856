"""Taking connections from a pool's control socket, each as descriptors in one message."""

from __future__ import annotations

import contextlib
import os
import select
import socket

from s6tls.posix.fdpass import room_for, unpacked
from s6tls.tls.credentials import PROGRAM
from s6tls.tls.ends import MESSAGE_SIZE, Descriptors
from s6tls.ucspi.log import log

_ROOM = room_for(len(Descriptors._fields))
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)


Taken = tuple[bytes, list[int]]
"""A message and the descriptors that came with it."""


def await_connection(control: socket.socket, leave: int) -> Taken | None:
    """Return a connection, or None when the server has closed the socket, or `leave` has ended.

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


def receive(control: socket.socket) -> Taken | None:
    """Take a connection from the control socket, or None when no more come.  Raises OSError."""
    message, ancillary, _, _ = control.recvmsg(MESSAGE_SIZE, _ROOM, _CLOEXEC)
    return (message, unpacked(ancillary)) if message else None


def whole(taken: Taken) -> Descriptors | None:
    """Return the descriptors of a connection; None if there was no room for all, and then the others are closed."""
    fds = Descriptors.unpacked(*taken)
    if fds is None:
        for fd in taken[1]:
            os.close(fd)
        log(PROGRAM, "fatal", "unable to take a connection: too many open files")
    return fds
