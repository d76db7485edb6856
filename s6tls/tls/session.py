"""The rim of a TLS session: a pump between the network's descriptors and the application's.

Each turn moves at most one chunk along each of the four ways, and the turns go on
while something moves.  A session that could go on for long gives way to the others
after a few rounds.

Two ends are easy to get wrong:

- A client may send its request and close at once, before it has read what TLS itself
  sends after the handshake; the kernel then resets the connection, and our next write
  fails.  What the client sent is still there to be read, and the application gets it.
- When the application is gone and everything is sent, the client may still be
  sending.  That is read and dropped, because closing a socket with unread bytes in it
  makes the kernel reset the connection, and the client may lose the answer that it has
  not read yet.  But a client that has acknowledged everything and never closes would
  hold the session for ever; it gets `LINGER` seconds, twice.

An application that is gone before the handshake is done, and has left nothing to be sent, ends the session.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import stat
import termios
from collections import deque
from collections.abc import Callable
from itertools import islice

from s6tls.tls.descriptors import Descriptors
from s6tls.tls.pump import CHUNK, Pump, TLSFailure
from s6tls.ucspi.reactor import BROKEN, READABLE, WRITABLE, Reactor, Timer

_ROUNDS = 8
_PIECES = 16
LINGER = 30.0


class Unwatchable(Exception):
    """A descriptor is of a kind that the kernel cannot watch, such as a plain file; the message says which."""


class Session:
    """Moves bytes until both directions have ended, then calls `ended(failure)` with None or what broke it."""

    __slots__ = (
        "_app_readable",
        "_app_writable",
        "_ended",
        "_failure",
        "_fds",
        "_from_app",
        "_impatience",
        "_mute",
        "_net_open",
        "_net_readable",
        "_net_writable",
        "_notify",
        "_one_way",
        "_over",
        "_pump",
        "_reactor",
        "_report",
        "_shared",
        "_shut",
        "_to_app",
        "_waiting_turn",
    )

    def __init__(
        self,
        reactor: Reactor,
        pump: Pump,
        fds: Descriptors,
        report: Callable[[Pump], bytes],
        ended: Callable[[TLSFailure | None], None],
        handshake_timeout: float = 0,
        one_way_close: bool = False,
        shared_network: bool = False,
    ) -> None:
        """Start.  `report` makes the notification; `handshake_timeout` is in seconds, 0 for none.

        `one_way_close` ends both directions once the application's has (close_notify mode).
        `shared_network` is for a connection that somebody else has open, too: it ends with the session all the same.
        Raises Unwatchable, and then the descriptors are still the caller's.
        """
        self._reactor, self._pump, self._fds = reactor, pump, fds
        self._report, self._ended = report, ended
        self._one_way, self._shared = one_way_close, shared_network
        self._from_app, self._to_app = fds.from_application, fds.to_application
        self._notify = fds.notify
        self._net_open = True
        self._mute = self._shut = False
        self._over = self._waiting_turn = False
        self._failure: TLSFailure | None = None
        self._net_readable = self._net_writable = self._app_readable = self._app_writable = True
        self._impatience: Timer | None = None
        if fds.net_in == fds.net_out:
            self._watch(fds.net_in, READABLE | WRITABLE, self._net_changed)
        else:
            self._watch(fds.net_in, READABLE, self._net_changed)
            self._watch(fds.net_out, WRITABLE, self._net_changed)
        self._watch(self._from_app, READABLE, self._from_app_changed)
        self._watch(self._to_app, WRITABLE, self._to_app_changed)
        if handshake_timeout:
            self._impatience = reactor.after(handshake_timeout, self._out_of_time)
        self.advance()

    def _watch(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        try:
            self._reactor.watch(fd, events, callback)
        except PermissionError as error:
            raise Unwatchable(f"unable to watch descriptor {fd}: not a socket, pipe or terminal") from error

    def _net_changed(self, events: int) -> None:
        if events & (READABLE | BROKEN):
            self._net_readable = True
        if events & (WRITABLE | BROKEN):
            self._net_writable = True
        self.advance()

    def _from_app_changed(self, _: int) -> None:
        self._app_readable = True
        self.advance()

    def _to_app_changed(self, events: int) -> None:
        if events & BROKEN:
            self._close_to_app()
        self._app_writable = True
        self.advance()

    def advance(self) -> None:
        """Move what can be moved."""
        if self._over:
            return
        try:
            for _ in range(_ROUNDS):
                moved = self._read_network()
                moved |= self._write_application()
                moved |= self._read_application()
                moved |= self._write_network()
                if not moved:
                    break
            else:
                self._give_way()
        except TLSFailure as failure:
            self._fail(failure)
        self._conclude()

    def _give_way(self) -> None:
        """Go on after the others have had their turn, once, whatever happens until then."""

        def go_on() -> None:
            self._waiting_turn = False
            self.advance()

        if not self._waiting_turn:
            self._waiting_turn = True
            self._reactor.soon(go_on)

    def _read_network(self) -> bool:
        if not (self._net_readable and self._pump.wants_network):
            return False
        try:
            data = os.read(self._fds.net_in, CHUNK)
        except BlockingIOError:
            self._net_readable = False
            return False
        except OSError as error:
            raise TLSFailure(f"unable to read from the network: {error.strerror}", self._handshaking) from error
        was_established = self._pump.established
        try:
            self._pump.feed_network(data)
        finally:
            self._write_network()
        if self._pump.established and not was_established:
            self._handshake_done()
        if self._to_app < 0:
            self._pump.to_application.clear()
        return True

    def _write_application(self) -> bool:
        chunks = self._pump.to_application
        if not (chunks and self._app_writable and self._to_app >= 0):
            return False
        try:
            self._pump.delivered(_write(self._to_app, chunks))
        except BlockingIOError:
            self._app_writable = False
            return False
        except OSError:
            self._close_to_app()
        return True

    def _read_application(self) -> bool:
        if not (self._app_readable and self._from_app >= 0 and self._pump.wants_application):
            return False
        try:
            data = os.read(self._from_app, CHUNK)
        except BlockingIOError:
            self._app_readable = False
            return False
        except OSError as error:
            raise TLSFailure(f"unable to read from the application: {error.strerror}", False) from error
        self._pump.feed_application(data)
        if not data:
            self._close_from_app()
        return True

    def _write_network(self) -> bool:
        chunks = self._pump.to_network
        if self._mute:
            self._pump.sent(self._pump.unsent)
        if not (chunks and self._net_writable):
            return False
        try:
            self._pump.sent(_write(self._fds.net_out, chunks))
        except BlockingIOError:
            self._net_writable = False
            return False
        except OSError as error:
            self._failure = TLSFailure(f"unable to write to the network: {error.strerror}", self._handshaking)
            self._mute = True
            self._close_from_app()
        return True

    @property
    def _handshaking(self) -> bool:
        return not self._pump.established

    def _handshake_done(self) -> None:
        self._stop_waiting()
        if self._notify >= 0:
            try:
                os.write(self._notify, self._report(self._pump))
            except OSError as error:
                raise TLSFailure(f"unable to notify: {error.strerror}", during_handshake=True) from error
            self._close_notify()

    def _conclude(self) -> None:
        """Hand on the ends of file that are due, and end when both directions have."""
        pump = self._pump
        if pump.network_ended and not pump.to_application:
            self._close_to_app()
        if (self._mute or (pump.application_ended and not pump.to_network)) and not self._shut:
            self._shut = self._mute = True
            self._end_output()
            if self._one_way:
                self._close_to_app()
        if self._to_app < 0 and (self._shut or not self._net_open):
            if pump.network_ended:
                self._end()
            elif self._impatience is None:
                self._linger(acknowledged=False)
        if self._handshaking and self._to_app < 0 <= self._from_app and _has_ended(self._from_app):
            self._end()

    def _end_output(self) -> None:
        """Let the client read an end of file, and us go on reading from it."""
        net_in, net_out = self._fds.net_in, self._fds.net_out
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(net_out).st_mode):
                _shut_down(net_out, socket.SHUT_WR)
            elif net_out != net_in:
                self._reactor.forget(net_out)
                null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
                os.dup2(null, net_out, inheritable=False)
                os.close(null)

    def _linger(self, acknowledged: bool) -> None:
        """Wait for the client's end of file, but not for ever once it has `acknowledged` everything."""

        def look_again() -> None:
            done = _all_acknowledged(self._fds.net_out)
            if acknowledged and done:
                self._end()
            else:
                self._linger(done)

        self._impatience = self._reactor.after(LINGER, look_again)

    def _fail(self, failure: TLSFailure) -> None:
        """Nothing more comes from the network or goes to it.

        The application still gets what the client sent before; its own writing is refused at once.
        Once both directions have ended nothing can fail any more: OpenSSL's clients answer an end of
        file without close_notify with an alert.
        """
        if not (self._shut and (self._to_app < 0 or _reader_is_gone(self._to_app))):
            self._failure = failure
        self._pump.network_ended = True
        self._pump.sent(self._pump.unsent)
        self._close_network()
        self._close_from_app()
        self._close_notify()
        self._stop_waiting()

    def _out_of_time(self) -> None:
        self._fail(TLSFailure("the handshake took too long", during_handshake=True))
        self._conclude()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._stop_waiting()
            self._close_network()
            self._close_from_app()
            self._close_notify()
            self._ended(self._failure)

    def _stop_waiting(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _close_network(self) -> None:
        if self._net_open:
            self._net_open = False
            for fd in {self._fds.net_in, self._fds.net_out}:
                if self._shared:
                    _shut_down(fd, socket.SHUT_RDWR)
                self._reactor.forget(fd)
                os.close(fd)

    def _close_from_app(self) -> None:
        if self._from_app >= 0:
            self._reactor.forget(self._from_app)
            os.close(self._from_app)
            self._from_app = -1

    def _close_to_app(self) -> None:
        """The application hears no more: what is decrypted from now on is dropped."""
        if self._to_app >= 0:
            self._reactor.forget(self._to_app)
            os.close(self._to_app)
            self._to_app = -1
        self._pump.to_application.clear()

    def _close_notify(self) -> None:
        if self._notify >= 0:
            os.close(self._notify)
            self._notify = -1


def _write(fd: int, chunks: deque[bytes]) -> int:
    """Write as many of the chunks as one call takes."""
    if len(chunks) == 1:
        return os.write(fd, chunks[0])
    return os.writev(fd, list(islice(chunks, _PIECES)))


def _shut_down(fd: int, how: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
        connection.shutdown(how)


def _has_ended(fd: int) -> bool:
    """Tell whether whoever writes to a pipe has closed it and left nothing there."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return [events for _, events in poll.poll(0)] == [select.POLLHUP]


def _reader_is_gone(fd: int) -> bool:
    """Tell whether nobody can read any more what is written to a pipe, though its event may not have come yet."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _all_acknowledged(fd: int) -> bool:
    """Tell whether the peer's kernel has everything, end of file included; anything but a socket has."""
    try:
        return fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)) == bytes(4)
    except OSError:
        return True
