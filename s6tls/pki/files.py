"""The files that keys, certificates, authorities and revocation lists are in: which they are, and their bytes."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import NamedTuple

from s6tls.accessrules.text import shown
from s6tls.pki import Kind, Unusable

LARGEST_FILE = 4 * 2**20
LARGEST_DIRECTORY = 4096
_HASHED_CRL = re.compile(rb"[0-9a-f]{8}\.r[0-9]+")


class File(NamedTuple):
    """The bytes of a file, and its permissions."""

    data: bytes
    mode: int


def read(path: bytes) -> File:
    """Read a plain file of at most `LARGEST_FILE` bytes.  Raises Unusable.

    Anything else could hold a server up.  A device is not even opened, for that sets some of them going.
    """
    try:
        _refuse_special(path, os.stat(path))
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            _refuse_special(path, status)
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if len(data) > LARGEST_FILE:
        raise Unusable(Kind.UNREADABLE, shown(path), f"larger than {LARGEST_FILE >> 20} MiB")
    return File(data, stat.S_IMODE(status.st_mode))


def authorities_in(directory: bytes) -> list[bytes]:
    """Return the paths of the files of a directory of authorities, in the order of their names.  Raises Unusable.

    All files count, whatever they are called, but hidden ones and the revocation lists of a hashed directory.
    """
    try:
        names = sorted(os.listdir(directory))
    except (OSError, ValueError) as error:
        raise unreadable(directory, error) from error
    if len(names) > LARGEST_DIRECTORY:
        raise Unusable(Kind.UNREADABLE, shown(directory), f"more than {LARGEST_DIRECTORY} files in it")
    paths = [os.path.join(directory, name) for name in names if not _passed_over(name)]
    return [path for path in paths if os.path.isfile(path)]


def unreadable(path: bytes, error: OSError | ValueError) -> Unusable:
    """Return what to raise where the system, or the path itself, stands in the way."""
    kind = Kind.MISSING if isinstance(error, FileNotFoundError | NotADirectoryError) else Kind.UNREADABLE
    return Unusable(kind, shown(path), getattr(error, "strerror", None) or str(error))


def _refuse_special(path: bytes, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise Unusable(Kind.UNREADABLE, shown(path), os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise Unusable(Kind.UNREADABLE, shown(path), "not a regular file")


def _passed_over(name: bytes) -> bool:
    return name.startswith(b".") or _HASHED_CRL.fullmatch(name) is not None
