"""Taking clients from a listening socket, as long as there are slots and descriptors for them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from s6tls.posix import descriptors
from s6tls.posix.reactor import READABLE, Reactor, Timer
from s6tls.ucspi.ledger import Client, Ledger
from s6tls.ucspi.listen import endpoint
from s6tls.ucspi.minutely import Minutely

_ACCEPTS_A_TURN = 32
_PAUSE_S = 0.1
_DESCRIPTORS = 8
"""What one client needs at most at once: a socket, three pipes, and one to spare."""
_FAR = 64
"""Below the limit by more than this, the number of a client's socket tells that there is room."""
_CLIENT_IS_GONE = (
    errno.ECONNABORTED,
    errno.EINTR,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
)  # what accept(2) may report of a connection instead of handing it over


class Acceptor:
    """Calls `take` with the descriptor of each client's socket.

    While the ledger is full, or the system is out of something, clients wait in the kernel's backlog.
    """

    def __init__(
        self,
        reactor: Reactor,
        listener: socket.socket,
        ledger: Ledger,
        take: Callable[[int, Client], object],
    ) -> None:
        self._reactor, self._listener, self._ledger, self._take = reactor, listener, ledger, take
        self._highest = listener.fileno()
        self._held_up = False
        self._retry: Timer | None = None
        self._failure = ""
        self._failed = Minutely(reactor.after, self._tell_failure)

    def start(self) -> None:
        """Accept from now on."""
        self._reactor.watch(self._listener.fileno(), READABLE, lambda _: self._accept())

    def resume(self) -> None:
        """Go on after a slot, or what else was lacking, has become free."""
        if self._held_up:
            self._held_up = False
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            self._reactor.soon(self._accept)

    def finish(self) -> None:
        """Take who is there already, and nobody else: who comes later is refused at once, and can go elsewhere."""
        self._accept()
        self.close()

    def close(self) -> None:
        """Accept no more; closing twice does no harm."""
        if self._is_open:
            self._reactor.forget(self._listener.fileno())
            self._listener.close()

    @property
    def _is_open(self) -> bool:
        return self._listener.fileno() >= 0

    def _accept(self) -> None:
        """Accept what is there, giving way to the connections under way every so often."""
        if self._retry is not None or not self._is_open:
            return
        near_limit = descriptors.most() - _FAR
        for _ in range(_ACCEPTS_A_TURN):
            if self._ledger.is_full:
                self._held_up = True
                self._ledger.log_full()
                return
            try:
                if self._highest >= near_limit:
                    descriptors.check_room(_DESCRIPTORS)
                accepted, name = self._listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                self._accept_failed(error)
                return
            self._highest = max(self._highest, accepted)
            self._take(accepted, Client(*endpoint(name)))
        self._reactor.soon(self._accept)

    def _accept_failed(self, error: OSError) -> None:
        """Go on after a client that left again; pause when the system is out of something."""
        if error.errno in _CLIENT_IS_GONE:
            self._reactor.soon(self._accept)
            return
        self._held_up = True
        self._retry = self._reactor.after(_PAUSE_S, self.resume)
        self._failure = error.strerror or str(error)
        self._failed.ask()

    def _tell_failure(self) -> bool:
        failure, self._failure = self._failure, ""
        if failure:
            self._ledger.log.warning(f"unable to accept: {failure}")
        return bool(failure)
