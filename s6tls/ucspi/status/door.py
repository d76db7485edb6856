"""The socket at which a server tells its status: to whoever connects, without hearing anything or waiting for anybody.

It is a Unix-domain socket that only the server's user may open.  A caller gets the document and end of file.  A few
are served at once, each a piece in a turn, and one that does not read is dropped.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator

from s6tls.posix.reactor import READABLE, WRITABLE, Reactor
from s6tls.ucspi.image import SERVER
from s6tls.ucspi.log import Seldom

_MOST_CALLERS = 4
_BACKLOG = 16
_PATIENCE_S = 5.0
_REST_S = 1.0


class Taken(Exception):
    """The path of the socket is somebody else's; the message says whose."""


class Door:
    """Gives `pieces` to callers."""

    def __init__(self, reactor: Reactor, path: bytes, pieces: Callable[[], Iterator[bytes]]) -> None:
        """Make the socket; whoever connects waits until it is `open`.  Raises OSError, Taken."""
        self._reactor, self._path, self._pieces = reactor, os.path.abspath(path), pieces
        self._listener = _bind(self._path)
        self._made = os.lstat(self._path)
        self._callers: set[_Caller] = set()
        self._failures = Seldom(SERVER)

    def open(self) -> None:
        """Answer from now on."""
        self._reactor.watch(self._listener.fileno(), READABLE, lambda _: self._answer())

    def close(self) -> None:
        """Answer nobody any more, and remove the socket; closing twice does no harm."""
        if self._listener.fileno() < 0:
            return
        self._reactor.forget(self._listener.fileno())
        self._listener.close()
        for caller in list(self._callers):
            caller.close()
        with contextlib.suppress(OSError):
            if os.path.samestat(self._made, os.lstat(self._path)):
                os.unlink(self._path)

    def _answer(self) -> None:
        while self._listener.fileno() >= 0 and len(self._callers) < _MOST_CALLERS:
            try:
                connected, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                self._reactor.after(_REST_S, self._answer)
                return
            self._callers.add(_Caller(self._reactor, connected, self._pieces(), self._left, self._failures))

    def _left(self, caller: _Caller) -> None:
        self._callers.discard(caller)
        self._reactor.soon(self._answer)


class _Caller:
    """One who gets the document, as fast as it is read, but for no longer than a few seconds."""

    def __init__(
        self,
        reactor: Reactor,
        connected: socket.socket,
        pieces: Iterator[bytes],
        left: Callable[[_Caller], None],
        failures: Seldom,
    ) -> None:
        self._reactor, self._socket, self._left, self._failures = reactor, connected, left, failures
        self._pieces, self._unsent = pieces, b""
        connected.setblocking(False)
        self._timer = reactor.after(_PATIENCE_S, self.close)
        reactor.watch(connected.fileno(), WRITABLE, lambda _: self._go_on())

    def close(self) -> None:
        """Let the caller go; closing twice does no harm."""
        if self._socket.fileno() >= 0:
            self._timer.cancel()
            self._reactor.forget(self._socket.fileno())
            self._socket.close()
            self._left(self)

    def _go_on(self) -> None:
        """Send what there is room for, a piece of it in this turn."""
        if self._socket.fileno() < 0:
            return
        try:
            self._unsent = self._unsent or next(self._pieces, b"")
            if not self._unsent:
                self.close()
                return
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        except Exception as error:  # no mistake in here may end the service
            self._failures.warning(f"unable to tell the status: {type(error).__name__}: {error}")
            self.close()
            return
        self._reactor.soon(self._go_on)


def _bind(path: bytes) -> socket.socket:
    """Make the socket beside its place, and put it there in one step, unless that is taken.  Raises OSError, Taken."""
    _check_place(path)
    beside = path + b".%d" % os.getpid()
    made = socket.socket(socket.AF_UNIX)
    try:
        made.setblocking(False)
        os.fchmod(made.fileno(), 0o600)  # which the file gets, whatever the umask
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        made.bind(beside)
        try:
            made.listen(_BACKLOG)
            os.rename(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
    except BaseException:
        made.close()
        raise
    return made


def _check_place(path: bytes) -> None:
    """Raise Taken unless there is nothing, or a socket of ours on which nobody listens; OSError."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Taken("it is no socket")
    if found.st_uid != os.geteuid():
        raise Taken("it belongs to another user")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(BlockingIOError):
                probe.connect(path)
            raise Taken("another server listens there")
