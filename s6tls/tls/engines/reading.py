"""What a server remembers of the files of keys and certificates that it has read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.stamp import is_stable
from s6tls.tls.credentials import CredentialPaths, Credentials

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp


class Digest(NamedTuple):
    """What tells credentials apart, without keeping them: all of them, and those by which clients are judged."""

    all: int
    judges: int

    @classmethod
    def of(cls, credentials: Credentials) -> Digest:
        """Return what tells these from others."""
        return cls(hash(credentials), hash(credentials.judges))


class Reading(NamedTuple):
    """What has been read of files, and whether every change after that will show in their stamps."""

    stamps: tuple[Stamp, ...]
    stable: bool
    credentials: Credentials

    @classmethod
    def of(cls, paths: CredentialPaths, stamps: tuple[Stamp, ...]) -> Reading:
        """Read all files, whose stamps are these.  Raises StageExit (96)."""
        stable = are_stable(stamps)
        return cls(stamps, stable, paths.read())


def are_stable(stamps: tuple[Stamp, ...]) -> bool:
    """Tell whether every change of these files from now on will show in their stamps."""
    now_ns = time.time_ns()
    return all(is_stable(stamp, now_ns) for stamp in stamps)
