"""Writing lines on a standard error that others share, without ever waiting for who reads it.

O_NONBLOCK is a flag of the open file, which programs share with us: we can neither set it (they do not expect it) nor
rely on it (they may change it).  So each kind of file is written to in a way that does not wait by itself: a socket by
send(2), a terminal through an open file of our own, and a pipe by write(2) while there is room for many lines,
then by splice(2), which does not wait, but takes a page of the pipe for each line.

When there is no room, a line is lost and counted, in memory that our forks share, and the next line
that finds room is followed by one that tells how many were lost.

Of what form a line is, `line` says: all that this process writes there has the same.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import mmap
import os
import select
import socket
import stat
import struct
import termios
from collections.abc import Callable

from s6tls.accessrules.text import printable_ascii

_FD = 2
LONGEST = select.PIPE_BUF
"""Bytes of a line, its newline included; of a longer one the end is cut off."""
_PATIENCE_MS = 50
"""How long to wait for a reader that has kept up until now; one that has not costs no time."""

_COUNT = struct.Struct("=Q")
_lost: mmap.mmap | bytearray = mmap.mmap(-1, _COUNT.size)
_kind: int | None = None
_own_terminal: int | None = None


def text(program: str, kind: str, message: str) -> bytes:
    """Return a line in the usual form.  What is not printable ASCII stands as an escape."""
    return f"{program}: {kind}: {printable_ascii(message)}\n".encode()


line: Callable[[str, str, str], bytes] = text
"""Makes a line of a program, a kind and a message."""


def settle() -> None:
    """Find out for good what standard error is, and count lost lines alone.

    For a process that will be able neither to ask nor to open, and is not to be trusted with what others count.
    """
    global _kind, _own_terminal, _lost
    with contextlib.suppress(OSError):
        _kind = stat.S_IFMT(os.fstat(_FD).st_mode)
        if stat.S_ISCHR(_kind):
            _own_terminal = _terminal()
    _lost = bytearray(_COUNT.size)


def redirect(pipe: int) -> None:
    """Have a pipe for standard error, and be settled (see `settle`).  Raises OSError."""
    global _kind, _lost
    os.dup2(pipe, _FD)
    _kind = stat.S_IFIFO
    _lost = bytearray(_COUNT.size)


def write_line(line: bytes, apology: Callable[[int], bytes]) -> None:
    """Write a line, which ends with a newline, whole or not at all.

    `apology` makes the line about so many that were lost before it.  Raises nothing but MemoryError.
    """
    with contextlib.suppress(OSError):
        if len(line) > LONGEST:
            line = line[: LONGEST - 4] + b"...\n"
        (lost,) = _COUNT.unpack(_lost)
        if _written(line) or (not lost and _has_room_soon() and _written(line)):
            if lost and _written(apology(lost)):
                _COUNT.pack_into(_lost, 0, 0)
        else:
            _COUNT.pack_into(_lost, 0, lost + 1)


def _written(line: bytes) -> bool:
    """Tell whether there was room for a line.  Raises OSError."""
    try:
        mode = os.fstat(_FD).st_mode if _kind is None else _kind
        if stat.S_ISFIFO(mode):
            return _written_to_pipe(line)
        if stat.S_ISSOCK(mode):
            return _sent(line)
        if stat.S_ISCHR(mode):
            return _written_to_terminal(line)
        os.write(_FD, line)
    except BlockingIOError:
        return False
    return True


def _written_to_pipe(line: bytes) -> bool:
    if not _has_room(0):
        return False
    unread = array.array("i", [0])
    fcntl.ioctl(_FD, termios.FIONREAD, unread)
    if unread[0] < fcntl.fcntl(_FD, fcntl.F_GETPIPE_SZ) // 4:
        return os.write(_FD, line) == len(line)
    return _spliced(line)


def _spliced(line: bytes) -> bool:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(writing, line)
        return os.splice(reading, _FD, len(line), flags=os.SPLICE_F_NONBLOCK) == len(line)
    finally:
        os.close(reading)
        os.close(writing)


def _sent(line: bytes) -> bool:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, _FD)
    try:
        return end.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) == len(line)
    finally:
        end.detach()


def _written_to_terminal(line: bytes) -> bool:
    """Write through an open file of our own, which may be told not to wait; a terminal may take a part of a line."""
    own = _terminal() if _own_terminal is None else _own_terminal
    try:
        return os.write(own, line) > 0
    finally:
        if own != _own_terminal:
            os.close(own)


def _terminal() -> int:
    return os.open(f"/proc/self/fd/{_FD}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _has_room_soon() -> bool:
    return _has_room(_PATIENCE_MS)


def _has_room(milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(_FD, select.POLLOUT)
    return bool(poll.poll(milliseconds))
