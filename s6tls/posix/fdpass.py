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

_CONTROL_BUFFER = 2**20
_NUMBER_SIZE = array.array("i").itemsize
_AT_ONCE = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)  # a number: enums are added up in Python
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
        self._retry_later: Callable[[], object] | None = None

    def retry_with(self, after: Callable[[float, Callable[[], object]], object], flush: Callable[[], object]) -> None:
        """Have `flush` called again `after` a while when the system lets no more descriptors be under way.

        Nothing else tells that it does again.  Without this, `send` and `flush` raise OSError.
        """
        is_due = False

        def again() -> None:
            nonlocal is_due
            is_due = False
            flush()

        def later() -> None:
            nonlocal is_due
            if not is_due:
                is_due = True
                after(_PAUSE_S, again)

        self._retry_later = later

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
                socket.send_fds(self.control, [message], fds)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS or self._retry_later is None:
                    raise
                self._retry_later()
                return False
            self._queue.popleft()
            self._sent += weight
            _close(fds)
        return True

    def hear(self) -> bool:
        """Take in what the other process says, a byte at a time; tell whether it has said anything."""
        heard = False
        with contextlib.suppress(OSError):
            for _ in range(_MOST_HEARD):
                heard = bool(self.control.recv(1, socket.MSG_DONTWAIT)) or heard
        return heard

    @property
    def has_queue(self) -> bool:
        """Whether there is something that the socket has not taken."""
        return bool(self._queue)

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
        theirs.sendmsg((_HELD,), ((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds)),))
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
