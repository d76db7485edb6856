"""From a directory tree to a cdb file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.cdb import DEFAULT_MODE, write_cdb
from s6tls.accessrules.record import MAX_EXEC
from s6tls.accessrules.text import shown
from s6tls.accessrules.tree import read_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s6tls.accessrules.rule import Rule

__all__ = ["compile_tree"]


def compile_tree(
    cdbfile: str | bytes,
    directory: str | bytes,
    *,
    mode: int = DEFAULT_MODE,
    warn: Callable[[str], None] = lambda message: None,
    checkpoint: Callable[[], None] = lambda: None,
    check: Callable[[bytes], None] = lambda temporary: None,
) -> None:
    """Compile the tree `directory` into `cdbfile`, with these permissions; see `write_cdb`.

    `warn` is told of texts cut short.  Raises what `read_tree` and `write_cdb` raise.
    """
    write_cdb(cdbfile, _with_warnings(read_tree(directory), warn), mode=mode, checkpoint=checkpoint, check=check)


def _with_warnings(rules: Iterable[tuple[bytes, Rule]], warn: Callable[[str], None]) -> Iterator[tuple[bytes, Rule]]:
    for key, rule in rules:
        if len(rule.exec) == MAX_EXEC:
            warn(f"exec of {shown(key)} cut at {MAX_EXEC} bytes")
        yield key, rule
