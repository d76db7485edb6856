"""From a cdb file to a directory tree.

The file is untrusted.  Nothing in it can name a place outside the new directory, and what a
tree cannot express is an error, so that compiling the tree gives the records again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules import record
from s6tls.accessrules.cdbfile import open_file, records
from s6tls.accessrules.rule import ALLOW
from s6tls.accessrules.text import shown
from s6tls.accessrules.tree import new_tree, unable_to_write, write_rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from s6tls.accessrules.rule import Rule

__all__ = ["decompile"]


def decompile(
    directory: str | bytes,
    cdbfile: str | bytes,
    *,
    warn: Callable[[str], None] = lambda message: None,
    checkpoint: Callable[[], None] = lambda: None,
) -> None:
    """Create `directory`, which must not exist, with the rules of `cdbfile`.

    If anything is raised, the directory goes again.  `warn` is told of oddities that the tree does not keep.
    `checkpoint` is called before each rule, and may raise to stop the work.

    Raises OSError, or RuleSetError if the file is no cdb or has a record that no tree can have.
    """
    with new_tree(directory) as root, open(open_file(cdbfile), "rb") as file:
        for key, value in records(file.fileno()):
            checkpoint()
            with unable_to_write(key):
                write_rule(key, _decode(key, value, warn), root)


def _decode(key: bytes, value: bytes, warn: Callable[[str], None]) -> Rule | None:
    """Read a record as the reference's decompiler does.

    It wants lengths that fit in any value that has room for one, be it an allow or not.  And it takes a bare ``A``
    for an allow, though at a lookup that is an error; recorded cases ask for this, and we say so.
    """
    if len(value) > 2:
        record.split(value)
    elif value[:1] == b"A":
        warn(f"incomplete record taken for a plain allow: {shown(key)}")
        return ALLOW
    return record.decode(value)
