"""Directories of environment variables, in the format of envdir (https://cr.yp.to/daemontools/envdir.html).

A file's name is the variable's; an empty file unsets it.  Otherwise the value is the
first line of the first 4095 bytes, without trailing spaces, tabs and carriage returns, and with NUL
for newline.  Files whose name starts with a dot or contains ``=`` are ignored.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s6tls.accessrules.rule import Env

MAX_FILE = 4095


def ignored(name: bytes) -> bool:
    """Tell whether envdir leaves a file of this name alone."""
    return name.startswith(b".") or b"=" in name


def value_of(contents: bytes) -> bytes | None:
    """Return the value that a file with these contents gives, or None for "unset"."""
    if not contents:
        return None
    return contents[:MAX_FILE].partition(b"\n")[0].rstrip(b" \t\r").replace(b"\0", b"\n")


def contents_of(value: bytes | None) -> bytes:
    """Return what to write in a file so that `value_of` gives `value` back.  Raises ValueError if nothing does."""
    if value is None:
        return b""
    contents = value.replace(b"\n", b"\0") + b"\n"
    if value_of(contents) != value:
        raise ValueError("value is too long or ends with a blank")
    return contents


def read(directory: int) -> Env:
    """Return the changes that the directory open as `directory` asks for, by name.  Raises OSError."""
    changes = []
    for name in sorted(map(os.fsencode, os.listdir(directory))):
        if not ignored(name):
            changes.append((name, value_of(read_file(name, directory, MAX_FILE))))
    return tuple(changes)


def read_file(name: bytes, directory: int, limit: int) -> bytes:
    """Return the first `limit` bytes of a file.  Raises OSError.

    Never waits: a FIFO is refused, for it could keep a server waiting, or say nothing where something is meant.
    """
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
    try:
        contents = piece = os.read(descriptor, limit)
        while piece and len(contents) < limit:
            piece = os.read(descriptor, limit - len(contents))
            contents += piece
        if not contents and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is a FIFO", name)
        return contents
    finally:
        os.close(descriptor)
