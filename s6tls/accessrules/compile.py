"""From a directory tree to a cdb file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cdbx

from s6tls.accessrules import fs, record
from s6tls.accessrules.atomic import replace_atomically
from s6tls.accessrules.errors import RuleSetError, UsageProblem, refuse
from s6tls.accessrules.record import MAX_EXEC
from s6tls.accessrules.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s6tls.accessrules.rule import Rule

__all__ = ["compile_tree", "read_tree", "write_cdb"]

DEFAULT_MODE = 0o600


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


def write_cdb(
    cdbfile: str | bytes,
    rules: Iterable[tuple[bytes, Rule]],
    *,
    mode: int = DEFAULT_MODE,
    checkpoint: Callable[[], None] = lambda: None,
    check: Callable[[bytes], None] = lambda temporary: None,
) -> None:
    """Write rules with their keys into `cdbfile`, with these permissions.

    A temporary file beside `cdbfile` takes its place at the very end; if anything is
    raised before, it goes and `cdbfile` stays as it was.
    `checkpoint` is called before each rule and before the end, and may raise to stop the work.
    `check` is called with the path of the temporary file when it is complete, and may raise to keep the old `cdbfile`.

    Raises UsageProblem if an environment is too large, RuleSetError if the rules do not fit into a cdb, and
    OSError if the file cannot be written, or if something other than a file is there.
    """
    with replace_atomically(os.fsencode(cdbfile)) as temporary:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            maker = cdbx.CDB.make(descriptor, mmap=False)
            for key, rule in rules:
                checkpoint()
                maker.add(key, _encode(key, rule))
            maker.commit()
            os.fsync(descriptor)
            check(temporary)
            os.fchmod(descriptor, mode)
        except OverflowError as error:
            raise RuleSetError("rule set does not fit into a cdb file of 4 GiB") from error
        finally:
            os.close(descriptor)
        checkpoint()


def _encode(key: bytes, rule: Rule) -> bytes:
    try:
        return record.encode(rule)
    except UsageProblem as error:
        raise UsageProblem(f"{shown(key)}: {error}") from error


def read_tree(directory: str | bytes) -> Iterator[tuple[bytes, Rule]]:
    """Yield all rules of a tree with their keys, in the order of the keys' parts.

    Raises RuleSetError for whatever cannot be read.
    """
    with fs.opened(os.fsencode(directory)) as root:
        yield from fs.rules(root, refuse)
