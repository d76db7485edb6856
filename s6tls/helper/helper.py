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

import json
import os
from typing import Any, Protocol

from s6tls.helper.request import LOOKUP, PROXY
from s6tls.helper.starting import start_apart
from s6tls.helper.supervised import SupervisedHelper
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.fdpass import DescriptorSender, control_pair
from s6tls.posix.jail import Level
from s6tls.posix.reactor import Reactor
from s6tls.ucspi.image import StageExit

_TOO_LATE = ExitCode.TIMEOUT
_SYSTEM = ExitCode.SYSTEM


class _Helper(Protocol):
    def send(self, kind: str, message: bytes, fds: list[int]) -> None:
        """Send a request to the helper, or to a new one if it has ended; `fds` are its own then.  Raises OSError."""

    def reaped(self, pid: int, status: int) -> bool:
        """Take note that a child has ended; tell whether it was the helper."""

    def close(self) -> None:
        """Let the helper end."""


class LookupHelper:
    """The server's end of the helper, a child of whoever runs the event loop `reactor`.  A command gives none.

    It is jailed as far as `jail` says.
    """

    def __init__(self, reactor: Reactor | None = None, jail: Level = Level.BEST) -> None:
        self._helper: _Helper = _HelperApart(jail) if reactor is None else SupervisedHelper(reactor, jail)

    def look_up(self, program: str, lookup: dict[str, Any], timeout_ms: int, servers: list[str]) -> int:
        """Ask who a client is; return the descriptor on which the reply comes.

        `lookup` has the fields of `s6tls.helper.lookup.LookupRequest`, with addresses as text.  `timeout_ms` is 0 for
        none; a lookup that takes longer is refused with code 99.  `servers` are the addresses of the name servers to
        ask, none for those of /etc/resolv.conf.  Raises StageExit (111).
        """
        late = _TOO_LATE, f"unable to look up {lookup['remote']}: took too long"
        request = {"kind": LOOKUP, "lookup": lookup, "timeout_ms": timeout_ms, "late": late, "servers": servers}
        return self._ask(program, request, ())

    def read_proxy_header(self, program: str, client: int, versions: tuple[int, ...], timeout_ms: int) -> int:
        """Have a PROXY header read from the descriptor `client`; return the descriptor on which the reply comes.

        No byte beyond the header is read.  `timeout_ms` is 0 for none; a header that takes longer is refused with
        code 111.  Raises StageExit (111).
        """
        late = _SYSTEM, "took too long"
        request = {"kind": PROXY, "versions": versions, "timeout_ms": timeout_ms, "late": late}
        return self._ask(program, request, (client,))

    def reaped(self, pid: int, status: int) -> bool:
        """Take note that a child has ended; tell whether it was the helper."""
        return self._helper.reaped(pid, status)

    def close(self) -> None:
        """Let the helper end."""
        self._helper.close()

    def _ask(self, program: str, request: dict[str, Any], client: tuple[int, ...]) -> int:
        fds: list[int] = []
        try:
            fds += os.pipe2(os.O_CLOEXEC)
            for fd in client:
                fds.append(os.dup(fd))
            self._helper.send(request["kind"], json.dumps(request).encode(), fds[1:])
        except OSError as error:
            for fd in fds:
                os.close(fd)
            raise StageExit(program, _SYSTEM, f"unable to ask the lookup helper: {error.strerror or error}") from error
        return fds[0]


class _HelperApart:
    """A command's helper: nobody's child, and waited for."""

    def __init__(self, jail: Level) -> None:
        self._jail = jail
        self._sender: DescriptorSender | None = None

    def send(self, kind: str, message: bytes, fds: list[int]) -> None:
        """See `_Helper`."""
        if self._sender is not None:
            try:
                self._sender.send(message, fds)
            except ConnectionError:
                self.close()
            else:
                return
        self._started(kind).send(message, fds)

    def reaped(self, _pid: int, _status: int) -> bool:
        """See `_Helper`."""
        return False

    def close(self) -> None:
        """See `_Helper`."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    def _started(self, kind: str) -> DescriptorSender:
        ours, theirs = control_pair()
        with theirs:
            try:
                start_apart(theirs, (kind,), self._jail)
            except OSError:
                ours.close()
                raise
        self._sender = DescriptorSender(ours)
        return self._sender
