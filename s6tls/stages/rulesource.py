"""A rule set that follows its file: what is compiled now decides about the next connection."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from s6tls.accessrules import Decision, RuleSet, RuleSetError, Verdict
from s6tls.accessrules.rule import stamp_of

Question = Callable[[RuleSet], Decision]

_TICKS = 50_000_000  # nanoseconds; the kernel's clock for files moves every 1 to 10 milliseconds


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
        self._settled = False

    def ask(self, question: Question) -> Decision:
        """Put a question to the rules.  Raises OSError when the file cannot be opened or is no cdb."""
        return question(self._current())

    def _current(self) -> RuleSet:
        """Return the rules of the file as it is now.

        A file's time moves in ticks: one that was written within the last few may be written again
        without any outward change.  It is read again until its time is old enough to tell.
        """
        if self._rules is not None:
            if self._settled and self._rules.stamp == stamp_of(os.stat(self.path)):
                return self._rules
            self._rules.close()
            self._rules = None
        now = time.time_ns()
        try:
            self._rules = RuleSet.open_cdb(self.path, private=self._private)
        except RuleSetError as error:
            raise OSError(str(error)) from error
        stamp = self._rules.stamp
        self._settled = stamp is not None and abs(now - stamp[-1]) > _TICKS
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
