"""From a directory tree to a cdb file."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import cdbx

from s6tls.accessrules import record
from s6tls.accessrules.errors import RuleSetError, UsageProblem, shown
from s6tls.accessrules.fs import DIRECTORY, read_rule
from s6tls.accessrules.record import MAX_EXEC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s6tls.accessrules.rule import Rule

DEFAULT_MODE = 0o600


def compile_tree(
    cdbfile: str | bytes,
    directory: str | bytes,
    *,
    mode: int = DEFAULT_MODE,
    warn: Callable[[str], None] = lambda message: None,
    checkpoint: Callable[[], None] = lambda: None,
) -> None:
    """Compile the tree `directory` into `cdbfile`, with these permissions.

    A temporary file beside `cdbfile` takes its place at the very end; if anything is
    raised before, it goes and `cdbfile` stays as it was.  `warn` is told of texts cut
    short.  `checkpoint` is called before each rule and before the end, and may raise to stop the work.

    Raises UsageProblem if an environment is too large, RuleSetError if the tree cannot be read, and
    OSError if the file cannot be written.
    """
    target = os.fsencode(cdbfile)
    temporary = b"%b:s6tls:%d:%b" % (target, os.getpid(), os.urandom(4).hex().encode())
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            maker = cdbx.CDB.make(descriptor, mmap=False)
            for key, rule in read_tree(directory):
                checkpoint()
                if len(rule.exec) == MAX_EXEC:
                    warn(f"exec of {shown(key)} cut at {MAX_EXEC} bytes")
                maker.add(key, _encode(key, rule))
            maker.commit()
            os.fsync(descriptor)
            os.fchmod(descriptor, mode)
        except OverflowError as error:
            raise RuleSetError("rule set does not fit into a cdb file of 4 GiB") from error
        finally:
            os.close(descriptor)
        checkpoint()
        os.rename(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _encode(key: bytes, rule: Rule) -> bytes:
    try:
        return record.encode(rule)
    except UsageProblem as error:
        raise UsageProblem(f"{shown(key)}: {error}") from error


def read_tree(directory: str | bytes) -> Iterator[tuple[bytes, Rule]]:
    """Yield all rules of a tree with their keys, in the order of the keys' parts.

    Whatever starts with a dot is passed over.  Raises RuleSetError, at the first thing that cannot be read.
    """
    with _opened(os.fsencode(directory)) as root:
        for family in _names(root):
            with _opened(family, root) as names:
                for name in _names(names):
                    key = family + b"/" + name
                    try:
                        rule = read_rule(name, names)
                    except OSError as error:
                        raise RuleSetError(f"unable to read {shown(key)}: {error.strerror}") from error
                    if rule is not None:
                        yield key, rule


@contextlib.contextmanager
def _opened(path: bytes, directory: int | None = None) -> Iterator[int]:
    try:
        descriptor = os.open(path, DIRECTORY, dir_fd=directory)
    except OSError as error:
        raise RuleSetError(f"unable to open directory {shown(path)}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _names(directory: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(directory) if not name.startswith("."))
