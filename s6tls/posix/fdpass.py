"""Passing descriptors to another process of ours: each with a message, over a control socket.

What is done for each connection is done with the sockets of `_socket`.  They are those that `socket` is made of, and
cost half as much to make.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import errno
import fcntl
import functools
import os
import socket
import termios
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from s6tls.posix.reactor import WRITABLE, Reactor, Timer

_CONTROL_BUFFER = 2**20
_NUMBER_SIZE = array.array("i").itemsize
_AT_ONCE = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)  # a number: enums are added up in Python
_SOCKET, _DESCRIPTORS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
_HELD = b"."
_PAUSE_S = 0.05
_MOST_HEARD = 1000
"""More messages than a control socket holds, unless its owner goes on sending."""


def control_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a control socket, on which a message arrives whole or not at all."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.suppress(OSError):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CONTROL_BUFFER)
    return ours, theirs


class DescriptorSender:
    """The sending end of a control socket; what the socket does not take yet waits in a queue."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._sent = 0
        self._reactor: Reactor | None = None
        self._events, self._awaits_room = 0, False
        self._changed: Callable[[], object]
        self._retry: Timer | None = None

    def work_in(self, reactor: Reactor, events: int, changed: Callable[[], object]) -> None:
        """Have `changed` called on `events` of the socket, and when what waits may be sent: it is to call `flush`.

        Without this, `send` and `flush` raise OSError when the system lets no more descriptors be under way.
        """
        self._reactor, self._events, self._changed = reactor, events, changed
        reactor.watch(self.control.fileno(), events, lambda _: changed())

    def send(self, message: bytes, fds: Sequence[int]) -> None:
        """Send a message and descriptors; these are closed here once they are on their way.

        Raises OSError when the other process is gone; they are then still the caller's.
        """
        entry = (message, tuple(fds))
        self._queue.append(entry)
        try:
            self.flush()
        except OSError:
            self._queue.remove(entry)
            raise

    def flush(self) -> bool:
        """Send what waits, as far as the socket takes it; tell whether all has gone.

        Raises OSError when the other process is gone.
        """
        while self._queue:
            message, fds = self._queue[0]
            weight = _weight(len(message))
            try:
                self.control.sendmsg((message,), ((_SOCKET, _DESCRIPTORS, array.array("i", fds)),))
            except BlockingIOError:
                self._await_room(True)
                return False
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS or self._reactor is None:
                    raise
                self._retry = self._retry or self._reactor.after(_PAUSE_S, self._try_again)
                return False
            self._queue.popleft()
            self._sent += weight
            _close(fds)
        self._await_room(False)
        return True

    def _await_room(self, awaits: bool) -> None:
        """Have the socket tell of room only if something waits: it does so each time that anything has been taken."""
        if self._reactor is not None and awaits != self._awaits_room:
            self._awaits_room = awaits
            self._reactor.rewatch(self.control.fileno(), self._events | (WRITABLE if awaits else 0))

    def _try_again(self) -> None:
        """Nothing tells that the system lets more be under way again."""
        self._retry = None
        self._changed()

    def hear(self) -> bool:
        """Take in what the other process says, a byte at a time; tell whether it has said anything."""
        heard = False
        with contextlib.suppress(OSError):
            for _ in range(_MOST_HEARD):
                heard = bool(self.control.recv(1, socket.MSG_DONTWAIT)) or heard
        return heard

    @property
    def waits(self) -> bool:
        """Whether there is something that the other process has not taken."""
        return bool(self._queue) or _untaken(self.control) > 0

    @property
    def taken(self) -> int:
        """A measure of what the other process has taken so far."""
        return self._sent - _untaken(self.control)

    def take_queue(self) -> list[tuple[bytes, tuple[int, ...]]]:
        """Give what still waits here, messages with their descriptors, to the caller."""
        waiting = list(self._queue)
        self._queue.clear()
        return waiting

    def close(self) -> None:
        """Let the other process know that nothing more comes; what still waits is dropped."""
        if self._reactor is not None:
            self._reactor.forget(self.control.fileno())
            self._reactor = None
        if self._retry is not None:
            self._retry.cancel()
        while self._queue:
            _close(self._queue.popleft()[1])
        self.control.close()


def receive(control: _socket.socket, length: int, most: int) -> tuple[bytes, list[int]] | None:
    """Return the next message, of at most `length` bytes and `most` descriptors; None if there is none.

    What has lost descriptors on its way, for want of room, is passed over.
    """
    room = room_for(most)
    with contextlib.suppress(OSError):
        while True:
            message, ancillary, flags, _ = control.recvmsg(length, room, _AT_ONCE)
            fds = unpacked(ancillary)
            if not message:
                break
            if not flags & socket.MSG_CTRUNC:
                return message, fds
            _close(fds)
    return None


def room_for(most: int) -> int:
    """Return how many bytes recvmsg(2) needs for so many descriptors."""
    return socket.CMSG_LEN(most * _NUMBER_SIZE)


def unpacked(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors in what recvmsg(2) gives beside a message."""
    numbers = array.array("i")
    for _, _, data in ancillary:
        numbers.frombytes(data)
    return numbers.tolist()


def put_away(fds: Sequence[int]) -> int:
    """Return a descriptor that holds others, in the queue of a socket; they are closed here, and with it for good.

    So whoever waits for long has one of them open, not many.  Raises OSError; they are then still as they were.
    """
    ours, theirs = _socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        theirs.sendmsg((_HELD,), ((_SOCKET, _DESCRIPTORS, array.array("i", fds)),))
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    _close(fds)
    return ours.detach()


def take_out(holder: int, count: int) -> list[int]:
    """Return what was put away, so many descriptors, and close what held them.  Raises OSError; it is then open."""
    ours = _socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, holder)
    received = receive(ours, len(_HELD), count)
    if received is None:
        ours.detach()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    ours.close()
    return received[1]


@functools.cache
def _weight(length: int) -> int:
    """Return what a message of this many bytes counts for in the kernel's buffer."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(bytes(length))
        return _untaken(ours)


def _untaken(control: socket.socket) -> int:
    counted = array.array("i", [0])
    fcntl.ioctl(control, termios.TIOCOUTQ, counted)
    return counted[0]


def _close(fds: Sequence[int]) -> None:
    for fd in set(fds):
        os.close(fd)
