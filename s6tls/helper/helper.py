"""The lookup helper: an unprivileged process that parses untrusted input on behalf of the server.

DNS answers, IDENT answers and PROXY headers are bytes from strangers, and the process that accepts connections is
root.  So it does not read them: it sends each request, with the client's socket if that is needed, to a helper that
runs as nobody, and gets a reply (see `s6tls.helper.reply`).  One helper serves all connections side by side in an
event loop, so that a name server that never answers delays only its own client.

The helper is started with the first request, and again if it has ended.  It ends when its control socket closes, so
it never outlives the server.  Of the server's descriptors it holds only stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from s6tls.accessrules.keys import parse_address
from s6tls.helper import reply
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.fdpass import DescriptorSender, control_pair
from s6tls.posix.identity import Identity
from s6tls.posix.process import close_all_but, fork, redirect_to_null
from s6tls.posix.reactor import BROKEN, READABLE, WRITABLE, Reactor
from s6tls.posix.watchdog import PATIENCE_S, Watchdog
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.log import log
from s6tls.ucspi.spawn import exits

if TYPE_CHECKING:
    from s6tls.helper.resolver import Resolver

_NOBODY = 65534
_NEEDS = {
    "lookup": ("s6tls.helper.lookup", "s6tls.helper.resolver"),
    "proxy": ("s6tls.helper.proxyheader", "google_crc32c"),
}
_LARGEST_REQUEST = 4096
_TOO_LATE = ExitCode.TIMEOUT
_SYSTEM = ExitCode.SYSTEM


class LookupHelper:
    """The server's end of the helper; `reactor`, if given, is the event loop that sends what it cannot take yet."""

    def __init__(self, reactor: Reactor | None = None) -> None:
        self._reactor = reactor
        self._sender: DescriptorSender | None = None
        self._watchdog: Watchdog | None = None

    def look_up(self, program: str, lookup: dict[str, Any], timeout_ms: int, servers: list[str]) -> int:
        """Ask who a client is; return the descriptor on which the reply comes.

        `lookup` has the fields of `s6tls.helper.lookup.LookupRequest`, with addresses as text.  `timeout_ms` is 0 for
        none; a lookup that takes longer is refused with code 99.  `servers` are the addresses of the name servers to
        ask, none for those of /etc/resolv.conf.  Raises StageExit (111).
        """
        late = _TOO_LATE, f"unable to look up {lookup['remote']}: took too long"
        request = {"kind": "lookup", "lookup": lookup, "timeout_ms": timeout_ms, "late": late, "servers": servers}
        return self._ask(program, request, ())

    def read_proxy_header(self, program: str, client: int, versions: tuple[int, ...], timeout_ms: int) -> int:
        """Have a PROXY header read from the descriptor `client`; return the descriptor on which the reply comes.

        No byte beyond the header is read.  `timeout_ms` is 0 for none; a header that takes longer is refused with
        code 111.  Raises StageExit (111).
        """
        late = _SYSTEM, "took too long"
        request = {"kind": "proxy", "versions": versions, "timeout_ms": timeout_ms, "late": late}
        return self._ask(program, request, (client,))

    def close(self) -> None:
        """Let the helper end."""
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        if self._sender is not None:
            if self._reactor is not None:
                self._reactor.forget(self._sender.control.fileno())
            self._sender.close()
            self._sender = None

    def _ask(self, program: str, request: dict[str, Any], client: tuple[int, ...]) -> int:
        fds: list[int] = []
        try:
            fds += os.pipe2(os.O_CLOEXEC)
            for fd in client:
                fds.append(os.dup(fd))
            self._send(request["kind"], json.dumps(request).encode(), fds[1:])
        except OSError as error:
            for fd in fds:
                os.close(fd)
            raise StageExit(program, _SYSTEM, f"unable to ask the lookup helper: {error.strerror or error}") from error
        return fds[0]

    def _send(self, kind: str, message: bytes, fds: list[int]) -> None:
        """Send a request to the helper, or to a new one if it has ended.  Raises OSError."""
        if self._sender is not None:
            try:
                self._sender.send(message, fds)
            except ConnectionError:
                self.close()
            else:
                self._look()
                return
        self._started(kind).send(message, fds)
        self._look()

    def _look(self) -> None:
        if self._watchdog is not None:
            self._watchdog.look()

    def _replace(self) -> None:
        """Let a helper that takes no requests go; the next request starts another."""
        log("s6tls", "warning", f"the lookup helper takes no requests for {PATIENCE_S:g} s: replacing it")
        self.close()

    def _started(self, kind: str) -> DescriptorSender:
        ours, theirs = control_pair()
        with theirs:
            try:
                _start(theirs, _NEEDS if self._reactor is not None else (kind,))
            except OSError:
                ours.close()
                raise
        self._sender = sender = DescriptorSender(ours)
        if self._reactor is not None:
            ours.setblocking(False)
            self._reactor.watch(ours.fileno(), WRITABLE, lambda _: self._flush(sender))
            self._watchdog = Watchdog(self._reactor, sender, self._replace, PATIENCE_S)
        return sender

    def _flush(self, sender: DescriptorSender) -> None:
        try:
            sender.flush()
        except OSError:
            self.close()


def _start(control: socket.socket, kinds: Iterable[str]) -> None:
    """Fork twice, so that the helper is not the caller's child, for which it would have to wait.

    Modules for requests of these kinds are imported ahead, because nobody may have no right to read their files.
    """
    pid = fork()
    if pid == 0:
        with exits():
            if fork() == 0:
                _let_go_of_all_but(control)
                for module in (module for kind in kinds for module in _NEEDS[kind]):
                    importlib.import_module(module)
                if os.geteuid() == 0:
                    Identity(_NOBODY, _NOBODY).take()
                _serve(control)
    os.waitpid(pid, 0)


def _let_go_of_all_but(control: socket.socket) -> None:
    """Keep the control socket and stderr: 0 and 1 may be the client."""
    redirect_to_null(0, 1)
    close_all_but({0, 1, 2, control.fileno()})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _serve(control: socket.socket) -> None:
    """Take requests until the control socket closes: the server has ended then, or needs no helper."""
    reactor = Reactor()
    dispatcher = _Dispatcher(reactor)

    def take(_: int = 0) -> None:
        try:
            message, fds, flags, _ = socket.recv_fds(control, _LARGEST_REQUEST, 2)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            reactor.stop()
            return
        reactor.soon(take)
        if flags & socket.MSG_CTRUNC:  # no room for descriptors: the server sees the reply's pipe close
            for fd in fds:
                os.close(fd)
        else:
            dispatcher.take(json.loads(message), fds)

    control.setblocking(False)
    reactor.watch(control.fileno(), READABLE, take)
    reactor.run()


class _Dispatcher:
    """Starts the work that each request asks for."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._resolvers: dict[tuple[str, ...], Resolver] = {}

    def take(self, request: dict[str, Any], fds: list[int]) -> None:
        work = self._look_up if request["kind"] == "lookup" else self._read_proxy_header
        _Request(self._reactor, fds, request["timeout_ms"], request["late"], lambda answer: work(request, fds, answer))

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
        return _HeaderReading(self._reactor, fds, tuple(request["versions"]), answer).stop


class _Request:
    """One request under way: it ends with a reply or at its timeout, and then closes its descriptors."""

    def __init__(
        self,
        reactor: Reactor,
        fds: list[int],
        timeout_ms: int,
        late: tuple[int, str],
        work: Callable[[Callable[[bytes], None]], Callable[[], None]],
    ) -> None:
        self._fds, self._late, self._over = fds, late, False
        self._timer = reactor.after(timeout_ms / 1000, self._out_of_time) if timeout_ms else None
        self._stop: Callable[[], None] = lambda: None
        try:
            stop = work(self._finish)
        except (OSError, ValueError) as error:
            self._finish(reply.refusal(_SYSTEM, f"unable to look into the client: {error}"))
        else:
            self._stop = stop

    def _out_of_time(self) -> None:
        self._stop()
        self._finish(reply.refusal(*self._late))

    def _finish(self, answer: bytes) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        notify, *others = self._fds
        for fd in others:
            os.close(fd)
        with contextlib.suppress(OSError):
            os.write(notify, answer)
        os.close(notify)


class _HeaderReading:
    """Reads a PROXY header from a descriptor that other processes share: its flags stay as they are.

    `fds` are the pipe for the reply and that descriptor.  When the server has closed the pipe, the descriptor is closed
    at once, so that the client sees its connection end.
    """

    def __init__(
        self, reactor: Reactor, fds: list[int], versions: tuple[int, ...], answer: Callable[[bytes], None]
    ) -> None:
        from s6tls.helper.proxyheader import Reader

        self._reactor, self._answer = reactor, answer
        self._notify, self._fd = notify, fd = fds
        reactor.watch(notify, BROKEN, lambda _: self._end(b""))
        self._reader = Reader(versions)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._watched = True
        try:
            reactor.watch(fd, READABLE, self._readable)
        except PermissionError:  # a plain file is always readable, and cannot be watched
            self._watched = False
        self._readable()

    def stop(self) -> None:
        """Stop watching the descriptors."""
        self._reactor.forget(self._notify)
        if self._watched:
            self._watched = False
            self._reactor.forget(self._fd)

    def _readable(self, _: int = 0) -> None:
        from s6tls.helper.proxyheader import ProxyError

        try:
            while self._reader.wanted and self._poll.poll(0):
                self._reader.feed(os.read(self._fd, self._reader.wanted))
        except ProxyError as error:
            self._end(reply.refusal(error.code, str(error)))
        except OSError as error:
            self._end(reply.refusal(_SYSTEM, str(error.strerror)))
        else:
            if not self._reader.wanted:
                self._end(reply.encode(self._reader.variables))

    def _end(self, answer: bytes) -> None:
        self.stop()
        self._answer(answer)
