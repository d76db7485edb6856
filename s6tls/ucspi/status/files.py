"""What a server has read, and the pools of engines that it has started, as those who keep them tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp


class File(NamedTuple):
    """A file as it was when it was read: its stamp, None if it is read anew for each client.

    `server_name` is the name that a key or certificate is for, b"" for all.  `validity` is from when to when a
    certificate is valid, in seconds since 1970.
    """

    kind: str
    path: bytes
    stamp: Stamp | None
    server_name: bytes = b""
    validity: tuple[int, int] | None = None


class Pool(NamedTuple):
    """A pool of engines: its process, its state, how many connections it was given so far, and what it has read."""

    pid: int
    state: str
    given: int
    files: list[File]
