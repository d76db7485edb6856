"""The ends of a session: as descriptors, which travel from the chain to the engine, and as the session uses them.

The program may have the network's socket open too (`s6tls.stages.ucspitlsd`).  Both then share O_NONBLOCK, since it
is a flag of the open file, not of the descriptor.  So each call on a socket says itself that it must not wait.
Other descriptors have to be trusted to keep the flag.

The program's ends are two pipes, or two descriptors of one socket that the program has the other end of.  Closing one
of these two would tell the program nothing, so its direction is shut down.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import errno
import fcntl
import os
import select
import socket
import termios
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

from s6tls.posix.process import close_all_but
from s6tls.posix.reactor import ENDED, READABLE, WRITABLE

_PIECES = 16
_PIECE = 65536
_LARGEST_QUEUE = 2**22
"""Bytes that a socket may hold, as systems are set up."""
_SIOCOUTQNSD = 0x894B
"""Asks how many bytes have not even been sent (linux/sockios.h): the client's window has no room for them."""
_TCP_CLOSE = 7
"""The state of a connection that is gone, in the kernel's struct tcp_info (include/net/tcp_states.h)."""
MESSAGE_SIZE = 1
"""Bytes of the message with which the descriptors of a connection travel."""
_ANY_FAMILY, _STREAM = int(socket.AF_UNIX), int(socket.SOCK_STREAM)
_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class Descriptors(NamedTuple):
    """A session's ends; whoever holds them closes them.  `net_in` and `net_out` may be the same.

    `from_program` and `to_program` are clear text; `notify` is where the end
    of the handshake is told, if anywhere.  With delayed encryption it is where the handshake is asked
    for, too (see `s6tls.stages.ucspitlsd`).  `account` is where the server hears of the session
    (`s6tls.tls.engines.account`).
    """

    net_in: int
    net_out: int
    from_program: int
    to_program: int
    notify: int | None = None
    account: int | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """All of them, in the order of the fields."""
        return tuple(fd for fd in self if fd is not None)

    def packed(self) -> tuple[bytes, tuple[int, ...]]:
        """Return how they travel: a message that says how many they are, and the numbers, of one network only once."""
        numbers = self.numbers[1:] if self.net_in == self.net_out else self.numbers
        return bytes((len(numbers),)), numbers

    @classmethod
    def unpacked(cls, message: bytes, numbers: Sequence[int]) -> Descriptors | None:
        """Return what has arrived if all are there, their `account` among them."""
        if len(numbers) != message[0]:
            return None
        return cls(*numbers) if len(numbers) == len(cls._fields) else cls(numbers[0], *numbers)

    def close(self) -> None:
        """Close them all."""
        for fd in set(self.numbers):
            os.close(fd)

    def close_others(self) -> None:
        """Close every descriptor of the process but these and stderr."""
        close_all_but({2, *self.numbers})


_Opened = dict[int, _socket.socket | None]
"""The sockets among some descriptors; None for other ends."""


class Network:
    """What the client is reached by: a socket, or one descriptor to read from and one to write to.

    Those that are sockets are among `opened`.  `shared` is a connection that somebody else has open, too: it ends with
    the session all the same.
    """

    __slots__ = ("_in", "_out", "_shared", "reading", "writing")

    def __init__(self, reading: int, writing: int, opened: _Opened, shared: bool) -> None:
        self.reading, self.writing, self._shared = reading, writing, shared
        self._in, self._out = opened[reading], opened[writing]
        if self._out is not None:
            _send_at_once(self._out)

    @property
    def directions(self) -> dict[int, int]:
        """What to watch each descriptor for; for room, only where there was none (see `room`)."""
        return {self.writing: 0, self.reading: READABLE | ENDED}

    @property
    def room(self) -> tuple[int, int]:
        """The descriptor, and what to watch it for, by which to hear that more can be written."""
        return self.writing, WRITABLE | (READABLE | ENDED if self.writing == self.reading else 0)

    @property
    def tells_of_end(self) -> bool:
        """Whether the end is told of by itself: until then, a read that gives less than it might has given all."""
        return self._in is not None

    def read(self, size: int) -> bytes:
        """Return what has come, or b"" at the end.  Raises OSError."""
        return os.read(self.reading, size) if self._in is None else self._in.recv(size, _NOW)

    def write(self, chunks: deque[bytes]) -> int:
        """Send as many of the chunks as one call takes; return how many bytes that is.  Raises OSError."""
        if self._out is None:
            return _write(self.writing, chunks)
        return _send(self._out, chunks)

    def unacknowledged(self) -> int:
        """Return how many bytes the client's kernel does not have yet, our end of file counted as one."""
        return _count(self.writing, termios.TIOCOUTQ) if self._out is not None else 0

    def unsent(self) -> int:
        """Return how many bytes have not left our kernel, our end of file counted as one.

        What has left it counts as the client's, though it may not be acknowledged yet: a client that has read all and
        then resets the connection often does so before its kernel acknowledges.
        """
        return _count(self.writing, _SIOCOUTQNSD) if self._out is not None else 0

    def is_settled(self) -> bool:
        """Tell whether nothing more is heard of what was sent: the connection is gone, or there is no TCP."""
        if self._out is None:
            return True
        try:
            return self._out.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
        except OSError:
            return True

    def end_output(self, forget: Callable[[int], object]) -> None:
        """Let the client read an end of file; `forget` is told of a descriptor that is let go of."""
        if self._out is not None:
            _shut_down(self._out, socket.SHUT_WR)
        elif self.writing != self.reading:
            forget(self.writing)
            reading, broken = os.pipe2(os.O_CLOEXEC)  # no file can be opened in the jail
            os.dup2(broken, self.writing, inheritable=False)
            os.close(broken)
            os.close(reading)

    def close(self) -> None:
        """End the connection."""
        for end in (self._in, self._out):
            if end is not None:
                if self._shared:
                    _shut_down(end, socket.SHUT_RDWR)
                end.detach()
        for fd in {self.reading, self.writing}:
            os.close(fd)


class FromProgram:
    """The pipe that the program writes to; `count` bytes have been read from it."""

    __slots__ = ("count", "fd")

    def __init__(self, fd: int) -> None:
        self.fd, self.count = fd, 0

    def read(self, size: int) -> bytes:
        """Return what the program has written, or b"" when it writes no more.  Raises OSError."""
        data = os.read(self.fd, size)
        self.count += len(data)
        return data

    def unread(self) -> int:
        """Return how many bytes of the program's have not been read."""
        return _count(self.fd, termios.FIONREAD)

    def writer_is_gone(self) -> bool:
        """Tell whether the program writes no more, though something may be left to be read."""
        return bool(_poll(self.fd, 0) & select.POLLHUP)

    def has_ended(self) -> bool:
        """Tell whether the program writes no more, and nothing is left to be read."""
        return _poll(self.fd, select.POLLIN) == select.POLLHUP

    def close(self) -> None:
        """Let the program's next write fail."""
        os.close(self.fd)


class ToProgram:
    """The pipe that the program reads from; `count` bytes have been written to it."""

    __slots__ = ("count", "fd")

    def __init__(self, fd: int) -> None:
        self.fd, self.count = fd, 0

    def write(self, chunks: deque[bytes]) -> int:
        """Write as many of the chunks as one call takes; return how many bytes that is.  Raises OSError."""
        written = _write(self.fd, chunks)
        self.count += written
        return written

    def reader_is_gone(self) -> bool:
        """Tell whether nobody can read any more what is written, though the event may not have come yet."""
        return bool(_poll(self.fd, 0) & (select.POLLERR | select.POLLHUP))

    def close(self) -> None:
        """Let the program read its end of file."""
        os.close(self.fd)


class FromProgramSocket(FromProgram):
    """A socket, for what the program writes."""

    __slots__ = ("_socket",)

    def __init__(self, end: _socket.socket) -> None:
        super().__init__(end.fileno())
        self._socket = end

    def read(self, size: int) -> bytes:
        """See `FromProgram`.  A program that ends before it has read everything resets the socket, behind its bytes."""
        try:
            data = self._socket.recv(size, _NOW)
        except ConnectionResetError:
            return b""
        self.count += len(data)
        return data

    def writer_is_gone(self) -> bool:
        """See `FromProgram`."""
        return bool(_poll(self.fd, select.POLLRDHUP))

    def has_ended(self) -> bool:
        """See `FromProgram`."""
        return self.writer_is_gone() and not self.unread()

    def close(self) -> None:
        """See `FromProgram`.  What is left unread would be a reset to a program that still reads."""
        _shut_down(self._socket, socket.SHUT_RD)
        with contextlib.suppress(OSError):
            for _ in range(_LARGEST_QUEUE // _PIECE):
                if not self._socket.recv(_PIECE, _NOW):
                    break
        self._socket.close()


class ToProgramSocket(ToProgram):
    """A socket, for what the program reads."""

    __slots__ = ("_socket",)

    def __init__(self, end: _socket.socket) -> None:
        super().__init__(end.fileno())
        self._socket = end

    def write(self, chunks: deque[bytes]) -> int:
        """See `ToProgram`."""
        written = _send(self._socket, chunks)
        self.count += written
        return written

    def reader_is_gone(self) -> bool:
        """See `ToProgram`.  Of a program that only reads no more, there is no event."""
        try:
            self._socket.send(b"", _NOW)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

    def close(self) -> None:
        """See `ToProgram`."""
        _shut_down(self._socket, socket.SHUT_WR)
        self._socket.close()


class Notify:
    """Where the end of the handshake is told, once."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def tell(self, message: bytes) -> None:
        """Write a message, whole and without waiting.  Raises OSError."""
        os.set_blocking(self.fd, False)
        if os.write(self.fd, message) < len(message):
            raise BlockingIOError(0, "nobody reads it")

    def close(self) -> None:
        """Show that no message comes any more."""
        os.close(self.fd)


class Ends:
    """All ends of one session.  If they cannot be made, the descriptors are still the caller's."""

    __slots__ = ("from_program", "network", "notify", "to_program")

    def __init__(self, fds: Descriptors, shared: bool = False) -> None:
        opened: _Opened = {}
        try:
            for fd in {fds.net_in, fds.net_out, fds.from_program, fds.to_program}:
                opened[fd] = _open(fd)
            self.network = Network(fds.net_in, fds.net_out, opened, shared)
            written, read = opened[fds.from_program], opened[fds.to_program]
            self.from_program = FromProgram(fds.from_program) if written is None else FromProgramSocket(written)
            self.to_program = ToProgram(fds.to_program) if read is None else ToProgramSocket(read)
            self.notify = None if fds.notify is None else Notify(fds.notify)
        except BaseException:
            for end in opened.values():
                if end is not None:
                    end.detach()
            raise

    def close(self) -> None:
        """Close them all, if no session owns them."""
        self.network.close()
        for end in (self.from_program, self.to_program, self.notify):
            if end is not None:
                end.close()


def _open(fd: int) -> _socket.socket | None:
    """Return a socket's object, which is not asked for its family and owns the descriptor; None for another end.

    That is set not to block.  The constructor finds out which it is: the jail has no room for fstat(2).
    """
    try:
        return _socket.socket(_ANY_FAMILY, _STREAM, 0, fd)
    except OSError as error:
        if error.errno != errno.ENOTSOCK:
            raise
        os.set_blocking(fd, False)
        return None


def _send_at_once(connection: _socket.socket) -> None:
    """Disable Nagle's algorithm: records are written whole, and one that waited for an acknowledgement lost 40 ms."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _write(fd: int, chunks: deque[bytes]) -> int:
    if len(chunks) == 1:
        return os.write(fd, chunks[0])
    return os.writev(fd, list(islice(chunks, _PIECES)))


def _send(end: _socket.socket, chunks: deque[bytes]) -> int:
    if len(chunks) == 1:
        return end.send(chunks[0], _NOW)
    return end.sendmsg(islice(chunks, _PIECES), (), _NOW)


def _shut_down(end: _socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(how)


def _count(fd: int, request: int) -> int:
    counted = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, request, counted)
    return counted[0]


def _poll(fd: int, events: int) -> int:
    poll = select.poll()
    poll.register(fd, events)
    return next((found for _, found in poll.poll(0)), 0)
