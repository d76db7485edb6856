"""The lookup helper: an unprivileged process that parses untrusted input on behalf of the server.

DNS answers, IDENT answers and PROXY headers are bytes from strangers, and the process that accepts connections is
root.  So it does not read them: it sends each request, with the client's socket if that is needed, to a helper without
rights, and gets a reply (see `s6tls.helper.reply`).  One helper serves all connections side by side (see
`s6tls.helper.serving`), so that a name server that never answers delays only its own client.

The helper is started with the first request, and again if it has ended, or if a file that its jail lets it read has
been replaced.  It ends when its control socket closes and nobody waits for what it has begun, so it never outlives the
server.  Of the descriptors of a long-lived server it holds none.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from s6tls.accessrules.stamp import stamp_of
from s6tls.helper.serving import serve
from s6tls.posix.descriptors import raise_soft_limit
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.fdpass import DescriptorSender, control_pair
from s6tls.posix.identity import Identity
from s6tls.posix.jail import LOOKUP_FILES, Jail, Level, Role, become
from s6tls.posix.process import close_all_but, fork, redirect_to_null
from s6tls.posix.reactor import WRITABLE, Reactor
from s6tls.posix.watchdog import PATIENCE_S, Watchdog
from s6tls.ucspi.hearsay import Hearsay
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.log import log
from s6tls.ucspi.spawn import exits

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

_FIRST_ID = 0x70000000
"""Above what systems give out to accounts, services and containers."""
_NOBODY = 65534
_NEEDS = {
    "lookup": ("s6tls.helper.lookup", "s6tls.helper.resolver"),
    "proxy": ("s6tls.helper.proxyheader", "google_crc32c"),
}
_TOO_LATE = ExitCode.TIMEOUT
_SYSTEM = ExitCode.SYSTEM


class LookupHelper:
    """The server's end of the helper, which is jailed as far as `jail` says.

    `reactor`, if given, is the event loop that sends what the helper cannot take yet, and hears what it says.
    """

    def __init__(self, reactor: Reactor | None = None, jail: Level = Level.BEST) -> None:
        self._reactor, self._jail = reactor, jail
        self._stderr = Hearsay(reactor, "s6tls", "the lookup helper") if reactor is not None else None
        self._sender: DescriptorSender | None = None
        self._stamps: tuple[Stamp | None, ...] = ()
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
        """Send a request to the helper, or to a new one if it has ended, or cannot read what is there now.

        Raises OSError.
        """
        if self._stamps != (stamps := tuple(map(_stamp, LOOKUP_FILES))):
            self.close()
            self._stamps = stamps
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
                said = 2 if self._stderr is None else self._stderr.writing
                _start(theirs, said, _NEEDS if self._reactor is not None else (kind,), self._jail)
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


def _stamp(path: str) -> Stamp | None:
    try:
        return stamp_of(os.stat(path))
    except OSError:
        return None


def _start(control: socket.socket, stderr: int, kinds: Iterable[str], jail: Level) -> None:
    """Fork twice, so that the helper is not the caller's child, for which it would have to wait.

    Modules for requests of these kinds are imported ahead, because the helper may have no right to read their files.
    """
    pid = fork()
    if pid == 0:
        with exits():
            if fork() == 0:
                os.dup2(stderr, 2)
                _let_go_of_all_but(control)
                for module in (module for kind in kinds for module in _NEEDS[kind]):
                    importlib.import_module(module)
                if os.geteuid() == 0:
                    _take_an_id_of_its_own()
                serve(control, Jail(Role.HELPER, jail, "s6tls"))
    os.waitpid(pid, 0)


def _take_an_id_of_its_own() -> None:
    """Run as what no account and no other process is, so that none can send signals to this one, or trace it."""
    own = _FIRST_ID + os.getpid()
    try:
        become(Identity(own, own))
    except OSError as error:
        log("s6tls", "warning", f"unable to give the lookup helper the id {own}: {error.strerror}; it runs as nobody")
        become(Identity(_NOBODY, _NOBODY))


def _let_go_of_all_but(control: socket.socket) -> None:
    """Keep the control socket and stderr: 0 and 1 may be the client."""
    redirect_to_null(0, 1)
    close_all_but({0, 1, 2, control.fileno()})
    raise_soft_limit()
