"""Writing a file whole or not at all: a temporary file beside the old one takes its place."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def replace_atomically(target: bytes) -> Iterator[bytes]:
    """Hand over the name of a file to make, beside `target`, whose place it takes at the end of the block.

    If anything is raised, it goes, and `target` stays as it was.  Raises OSError, also if there is something that no
    file may take the place of: a device, a FIFO, a directory.
    """
    _refuse_special(target)
    temporary = b"%b:s6tls:%d:%b" % (target, os.getpid(), os.urandom(4).hex().encode())
    try:
        yield temporary
        os.rename(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _refuse_special(path: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EEXIST, "what is there is no file")
