"""Rule sets in our text form, opened as if they were compiled."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from datetime import date
from typing import TYPE_CHECKING

from s6tls.accessrules.cdb import write_cdb
from s6tls.accessrules.errors import RuleSetError
from s6tls.audit.formats import expiry, text
from s6tls.audit.formats.entries import BadText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEADER = 2048


_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextlib.contextmanager
def compiled(path: bytes, left_out: Callable[[int], None] = lambda number: None) -> Iterator[bytes]:
    """Open a file or directory once, and hand over a path of what is open: of a text, of a cdb with its permissions.

    Rules of a text that have expired are left out, as they are when a cdb is built, and their number told.
    Raises OSError, and RuleSetError for a text that says no rules.
    """
    descriptor = os.open(path, _OPEN)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and _is_text(descriptor):
            with open(descriptor, "rb") as file:
                data = file.read()
            descriptor = _made_of(data, stat.S_IMODE(status.st_mode), left_out)
        yield b"/proc/self/fd/%d" % descriptor
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _is_text(descriptor: int) -> bool:
    """Tell whether a file may be a text: among the numbers that a cdb begins with there are always NULs."""
    header = os.pread(descriptor, _HEADER, 0)
    return bool(header) and b"\0" not in header


def _made_of(data: bytes, mode: int, left_out: Callable[[int], None]) -> int:
    """Compile a text; return the descriptor of a cdb that has no name."""
    try:
        kept, expired = expiry.split(text.parse(data).entries, date.today())
    except BadText as bad:
        first = bad.faults[0]
        raise RuleSetError(f"not a cdb file, and no text of rules: line {first.line}: {first.message}") from None
    if expired:
        left_out(len(expired))
    with tempfile.TemporaryDirectory() as directory:
        place = os.path.join(os.fsencode(directory), b"rules")
        write_cdb(place, ((entry.key, entry.rule) for entry in kept), mode=mode)
        return os.open(place, _OPEN)
