"""A rule set that follows its file: what is compiled now decides about the next connection."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from s6tls.accessrules import Decision, RuleSet, RuleSetError, Verdict
from s6tls.accessrules.rule import is_stable, stamp_of

Question = Callable[[RuleSet], Decision]


class Rules(Protocol):
    """A rule set that follows the file or directory at `path`."""

    @property
    def path(self) -> bytes:
        """What messages call it."""

    def ask(self, question: Question) -> Decision:
        """Put a question to the rules as they are now.  Raises OSError when they cannot be read."""


class CdbSource:
    """Rules of a cdb file, opened again whenever another file or other contents stand under its name.

    The long-lived server works on a private copy of the file, so that nobody who
    truncates it in place can stop the server with a fault on the mapping.
    """

    def __init__(self, path: bytes, private: bool) -> None:
        self.path, self._private = path, private
        self._rules: RuleSet | None = None
        self._is_stable = False

    def ask(self, question: Question) -> Decision:
        """Put a question to the rules.  Raises OSError when the file cannot be opened or is no cdb."""
        return question(self._current())

    def _current(self) -> RuleSet:
        """Return the rules of the file as it is now; one that is not stable is read again until it is."""
        if self._rules is not None:
            if self._is_stable and self._rules.stamp == stamp_of(os.stat(self.path)):
                return self._rules
            self._rules.close()
            self._rules = None
        now = time.time_ns()
        try:
            self._rules = RuleSet.open_cdb(self.path, private=self._private)
        except RuleSetError as error:
            raise OSError(str(error)) from error
        stamp = self._rules.stamp
        self._is_stable = stamp is not None and is_stable(stamp, now)
        return self._rules


class DirectorySource:
    """Rules of a directory tree, read afresh for each client."""

    def __init__(self, path: bytes) -> None:
        self.path = path

    def ask(self, question: Question) -> Decision:
        """Put a question to the rules.  Raises OSError when the directory cannot be opened.

        A directory that is not there holds no rule for anybody, as in the reference; nobody passes.
        """
        try:
            rules = RuleSet.open_dir(self.path)
        except FileNotFoundError:
            return Decision(Verdict.NOTFOUND)
        with rules:
            return question(rules)
