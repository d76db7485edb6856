"""Rule sets as directory trees: reading one rule, and the backend that looks rules up live."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from s6tls.accessrules import envdir
from s6tls.accessrules.errors import RuleSetError, shown
from s6tls.accessrules.record import MAX_EXEC
from s6tls.accessrules.rule import ALLOW, DENY, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.accessrules.rule import Env, Stamp

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


class DirectoryBackend:
    """Looks rules up in a directory tree, reading it afresh each time."""

    stamp: Stamp | None = None

    def __init__(self, path: str | bytes) -> None:
        """Open the tree.  Raises OSError."""
        self._directory = os.open(path, DIRECTORY)

    def close(self) -> None:
        """Let go of the tree; closing twice does no harm."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def first(self, keys: Iterable[bytes]) -> tuple[bytes, Rule] | None:
        """Return the first of `keys` that names a rule, and the rule.  Raises RuleSetError."""
        for key in keys:
            try:
                rule = read_rule(key, self._directory)
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:  # no rule can have this name
                    continue
                raise RuleSetError(f"unable to read {shown(key)}: {error.strerror}") from error
            if rule is not None:
                return key, rule
        return None
