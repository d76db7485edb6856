"""The helper's side: it takes requests from the control socket and works on them side by side, in one event loop.

What strangers can make it hold is bounded: it takes no more than so many requests at once, others wait in the socket,
and its memory has a limit.  A request is over when it has been answered, at its timeout, or when the server no longer
listens.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from s6tls.accessrules.keys import parse_address
from s6tls.helper import reply
from s6tls.helper.request import LARGEST, LOOKUP, MOST_DESCRIPTORS
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.jail import Jail
from s6tls.posix.reactor import BROKEN, READABLE, Reactor
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.helper.resolver import Resolver

MOST_REQUESTS = 2000
"""How many requests are under way at once: each may hold a PROXY header of 64 KiB."""
MEMORY = 256 * 2**20
"""How much memory may be allocated beyond what the program starts with, in bytes."""
BUSY_S = 1.0
"""How often the server is told that requests have to wait because there are so many: this process does not hang."""
_FOR_LAST_WORDS = 2**20
_DESCRIPTORS_OF_A_REQUEST = 4
_SYSTEM = ExitCode.SYSTEM


def serve(control: socket.socket, jail: Jail) -> None:
    """Take requests, in a jail, until the control socket closes: the server has ended then, or uses another helper."""
    _limit_memory()
    sys.unraisablehook = lambda raised: _end(raised.exc_value)
    try:
        jail.enter()
        _Service(control).run()
    except Exception as error:
        _end(error)


def _limit_memory() -> None:
    with open("/proc/self/statm") as pages:
        allocated = int(pages.read().split()[5]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit, last = allocated + MEMORY, allocated + MEMORY + _FOR_LAST_WORDS
    if most != resource.RLIM_INFINITY:
        limit, last = min(limit, most), min(last, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, last))


def _end(error: BaseException | None) -> NoReturn:
    """End without a reply to anybody; the server starts another helper for the next request."""
    try:
        _, last = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (last, last))
        why = "out of memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
        log("s6tls", "warning", f"the lookup helper ends and will be replaced: {why}")
    finally:
        os._exit(_SYSTEM)


class _Service:
    """Starts the work that each request asks for."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reactor = Reactor()
        self._resolvers: dict[tuple[str, ...], Resolver] = {}
        self._under_way = 0
        self._last = False
        self._says_busy = False
        self._most = min(MOST_REQUESTS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _DESCRIPTORS_OF_A_REQUEST)

    def run(self) -> None:
        self._control.setblocking(False)
        self._reactor.watch(self._control.fileno(), READABLE, self._take)
        self._reactor.run()

    def _take(self, _: int = 0) -> None:
        """Take a request, if it is not one too many; the others get their turn before the next."""
        if self._last or self._under_way >= self._most:
            return
        try:
            message, fds, flags, _ = socket.recv_fds(self._control, LARGEST, MOST_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._finish()
            return
        self._reactor.soon(self._take)
        if flags & socket.MSG_CTRUNC:  # no room for descriptors: the server sees the reply's pipe close
            for fd in fds:
                os.close(fd)
        else:
            self._begin(json.loads(message), fds)
            if not self._says_busy:
                self._say_busy()

    def _say_busy(self) -> None:
        """Tell the server again and again while no more requests are taken."""
        self._says_busy = self._under_way >= self._most
        if self._says_busy:
            with contextlib.suppress(OSError):
                self._control.send(b"+", socket.MSG_DONTWAIT)
            self._reactor.after(BUSY_S, self._say_busy)

    def _finish(self) -> None:
        """Take no more, and end with the last request that is under way."""
        self._last = True
        self._reactor.forget(self._control.fileno())
        if not self._under_way:
            self._reactor.stop()

    def _begin(self, request: dict[str, Any], fds: list[int]) -> None:
        self._under_way += 1
        work = self._look_up if request["kind"] == LOOKUP else self._read_proxy_header
        _Request(
            self._reactor,
            fds,
            request["timeout_ms"],
            request["late"],
            lambda answer: work(request, fds, answer),
            self._ended,
        )

    def _ended(self) -> None:
        if self._last and self._under_way == 1:
            self._reactor.stop()
        if self._under_way == self._most:
            self._reactor.soon(self._take)
        self._under_way -= 1

    def _look_up(self, request: dict[str, Any], _: list[int], answer: Callable[[bytes], None]) -> Callable[[], None]:
        from s6tls.helper.lookup import Lookup, LookupRequest

        fields = request["lookup"]
        for field in ("remote", "local"):
            fields[field] = parse_address(fields[field])
        lookup = Lookup(
            self._reactor,
            self._resolver(tuple(request["servers"])),
            LookupRequest(**fields),
            lambda found: answer(reply.encode(found)),
        )
        return lookup.abandon

    def _resolver(self, servers: tuple[str, ...]) -> Resolver:
        from s6tls.helper.resolver import Resolver

        if servers not in self._resolvers:
            self._resolvers[servers] = Resolver(self._reactor, servers)
        return self._resolvers[servers]

    def _read_proxy_header(
        self, request: dict[str, Any], fds: list[int], answer: Callable[[bytes], None]
    ) -> Callable[[], None]:
        return _HeaderReading(self._reactor, fds[1], tuple(request["versions"]), answer).stop


class _Request:
    """One request under way: in the end it replies, if somebody listens, closes its descriptors and calls `ended`.

    The first of `fds` is the pipe for the reply.  `work` gets what to call with the reply, and returns how to stop it.
    """

    def __init__(
        self,
        reactor: Reactor,
        fds: list[int],
        timeout_ms: int,
        late: tuple[int, str],
        work: Callable[[Callable[[bytes], None]], Callable[[], None]],
        ended: Callable[[], None],
    ) -> None:
        self._reactor, self._fds, self._ended, self._over = reactor, fds, ended, False
        self._stop: Callable[[], None] = lambda: None
        self._timer = reactor.after(timeout_ms / 1000, lambda: self._break_off(reply.refusal(*late)))
        if not timeout_ms:
            self._timer.cancel()
        reactor.watch(fds[0], BROKEN, lambda _: self._break_off(b""))
        try:
            stop = work(self._finish)
        except (OSError, ValueError) as error:
            self._finish(reply.refusal(_SYSTEM, f"unable to look into the client: {error}"))
        else:
            self._stop = stop

    def _break_off(self, answer: bytes) -> None:
        self._stop()
        self._finish(answer)

    def _finish(self, answer: bytes) -> None:
        if self._over:
            return
        self._over = True
        self._timer.cancel()
        notify, *others = self._fds
        self._reactor.forget(notify)
        for fd in others:
            os.close(fd)
        with contextlib.suppress(OSError):
            os.write(notify, answer)
        os.close(notify)
        self._ended()


class _HeaderReading:
    """Reads a PROXY header from a descriptor that other processes share: its flags stay as they are.

    It reads once in a turn of the event loop: a client that sends byte by byte is no reason to make others wait.
    """

    def __init__(self, reactor: Reactor, fd: int, versions: tuple[int, ...], answer: Callable[[bytes], None]) -> None:
        from s6tls.helper.proxyheader import Reader

        self._reactor, self._fd, self._answer = reactor, fd, answer
        self._reader = Reader(versions)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._reading = True
        self._has_a_turn = False
        with contextlib.suppress(PermissionError):  # a plain file is always readable, and cannot be watched
            reactor.watch(fd, READABLE, self._readable)
        self._readable()

    def stop(self) -> None:
        """Read no more."""
        self._reading = False
        self._reactor.forget(self._fd)

    def _readable(self, _: int = 0) -> None:
        if not self._has_a_turn:
            self._has_a_turn = True
            self._reactor.soon(self._read)

    def _read(self) -> None:
        from s6tls.helper.proxyheader import ProxyError

        self._has_a_turn = False
        if not (self._reading and self._poll.poll(0)):
            return
        try:
            self._reader.feed(os.read(self._fd, self._reader.wanted))
        except ProxyError as error:
            self._end(reply.refusal(error.code, str(error)))
        except OSError as error:
            self._end(reply.refusal(_SYSTEM, str(error.strerror)))
        else:
            if self._reader.wanted:
                self._readable()
            else:
                self._end(reply.encode(self._reader.variables))

    def _end(self, answer: bytes) -> None:
        self.stop()
        self._answer(answer)
