"""Rule sets as directory trees: reading one rule or all, and the backend that looks rules up live.

A tree has no moment at which all of it is seen: files may change while others are read.  It is opened once, so at
least it is one and the same tree, whatever takes its place meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from s6tls.accessrules import envdir
from s6tls.accessrules.errors import RuleSetError
from s6tls.accessrules.record import MAX_EXEC
from s6tls.accessrules.rule import ALLOW, DENY, Rule
from s6tls.accessrules.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.accessrules.rule import Env, Fault
    from s6tls.accessrules.stamp import Stamp

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def read_rule(path: bytes, directory: int) -> Rule | None:
    """Return the rule kept in the directory `path`, relative to `directory`, or None if there is none.

    Raises OSError when that cannot be told.
    """
    if _exists(path + b"/allow", directory):
        env = _read_env(path + b"/env", directory)
        exec_ = _read_exec(path + b"/exec", directory)
        return Rule(True, env, exec_) if env or exec_ else ALLOW
    return DENY if _exists(path + b"/deny", directory) else None


def _exists(path: bytes, directory: int) -> bool:
    try:
        os.stat(path, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def _read_env(path: bytes, directory: int) -> Env:
    try:
        descriptor = os.open(path, DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        return ()
    try:
        return envdir.read(descriptor)
    finally:
        os.close(descriptor)


def _read_exec(path: bytes, directory: int) -> bytes:
    try:
        return envdir.read_file(path, directory, MAX_EXEC)
    except FileNotFoundError:
        return b""


def rules(root: int, fault: Fault) -> Iterator[tuple[bytes, Rule]]:
    """Yield all rules of the tree open as `root` with their keys, in the order of the keys' parts.

    Whatever starts with a dot is passed over.  What cannot be read is told to `fault`, with the key of the rule or the
    name of the family, and passed over.
    """
    for family in _names(root):
        try:
            with opened(family, root) as names:
                yield from _family(family, names, fault)
        except Unopened as error:
            fault(family, error)


def _family(family: bytes, names: int, fault: Fault) -> Iterator[tuple[bytes, Rule]]:
    for name in _names(names):
        key = family + b"/" + name
        try:
            rule = read_rule(name, names)
        except OSError as error:
            fault(key, RuleSetError(f"unable to read {shown(key)}: {error.strerror}"))
            continue
        if rule is not None:
            yield key, rule


class Unopened(RuleSetError):
    """A directory of the tree cannot be opened."""


@contextlib.contextmanager
def opened(path: bytes, directory: int | None = None) -> Iterator[int]:
    """Hand over a directory, open until the end of the block.  Raises Unopened."""
    try:
        descriptor = os.open(path, DIRECTORY, dir_fd=directory)
    except OSError as error:
        raise Unopened(f"unable to open directory {shown(path)}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _names(directory: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(directory) if not name.startswith("."))


class DirectoryBackend:
    """Looks rules up in a directory tree, reading it afresh each time."""

    stamp: Stamp | None = None

    def __init__(self, descriptor: int) -> None:
        """Look into an open directory, whose descriptor is this object's from now on."""
        self.descriptor = descriptor
        self.mode = stat.S_IMODE(os.fstat(descriptor).st_mode)

    def close(self) -> None:
        """Let go of the tree; closing twice does no harm."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def first(self, keys: Iterable[bytes]) -> tuple[bytes, Rule] | None:
        """Return the first of `keys` that names a rule, and the rule.  Raises RuleSetError."""
        for key in keys:
            try:
                rule = read_rule(key, self.descriptor)
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:  # no rule can have this name
                    continue
                raise RuleSetError(f"unable to read {shown(key)}: {error.strerror}") from error
            if rule is not None:
                return key, rule
        return None

    def rules(self, fault: Fault) -> Iterator[tuple[bytes, Rule]]:
        """Yield all rules, as `rules` does."""
        return rules(self.descriptor, fault)
