"""How many descriptors may be open: the soft limit RLIMIT_NOFILE, for ourselves and for those whom we start."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterator


class Opened(list[int]):
    """Descriptors that are closed if a block fails, in which somebody is to get them."""

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            for fd in self:
                os.close(fd)

    def pipe(self) -> tuple[int, int]:
        """Return the reading and the writing end of a new pipe.  Raises OSError."""
        return self._with(*os.pipe2(os.O_CLOEXEC))

    def socket_pair(self) -> tuple[int, int]:
        """Return both ends of a new pair of Unix-domain sockets.  Raises OSError."""
        one, other = socket.socketpair()
        return self._with(one.detach(), other.detach())

    def another(self, fd: int) -> int:
        """Return another descriptor of the same.  Raises OSError."""
        self.append(other := os.dup(fd))
        return other

    def _with(self, one: int, other: int) -> tuple[int, int]:
        self += one, other
        return one, other


def raise_soft_limit() -> tuple[int, int]:
    """Allow this process as many descriptors as the system lets it; return how many it had, and has now."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    set_soft_limit(most)
    return before, most


def set_soft_limit(number: int) -> None:
    """Set this process's limit.  Those that are open beyond it stay so."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def most() -> int:
    """Return this process's limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def check_room(number: int) -> None:
    """See that so many more can be opened.  Raises OSError."""
    with contextlib.ExitStack() as opened:
        for _ in range(number):
            opened.callback(os.close, os.dup(2))


def count_under_way() -> bool:
    """Tell whether this process's limit is also one of how many may be on their way in sockets, all of its user's."""
    ours, theirs = socket.socketpair()
    with ours, theirs, soft_limit(0):
        try:
            for _ in range(2):  # the first is let through
                socket.send_fds(ours, [b"."], [2])
        except OSError as error:
            return error.errno == errno.ETOOMANYREFS
    return False


@contextlib.contextmanager
def soft_limit(number: int | None) -> Iterator[None]:
    """Have a limit within the block, for a child that inherits it; None changes nothing."""
    if number is None:
        yield
        return
    own, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (own, most))
