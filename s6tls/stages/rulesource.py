"""A rule set that follows its file: a newly compiled one decides about the next connection."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from s6tls.accessrules import Decision, RuleSet, RuleSetError, Verdict
from s6tls.accessrules.stamp import is_stable, stamp_of
from s6tls.accessrules.text import shown
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.image import StageExit

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

_shown = functools.lru_cache(1024)(shown)
"""The same few rules decide again and again."""
Probe = Callable[[RuleSet], Decision]


class Rules(Protocol):
    """A rule set that follows the file or directory at `path`."""

    @property
    def path(self) -> bytes:
        """What messages call it."""

    @property
    def stamp(self) -> Stamp | None:
        """That of the file as it was last read, if it is one."""

    def ask(self, probe: Probe) -> Decision:
        """Ask the rules as they are now.  Raises OSError when they cannot be read."""

    def open(self) -> None:
        """Open the rules anew.  Raises OSError when there are none that can be read."""


def open_rules(program: str, rules: Rules) -> None:
    """Open a rule set anew.  Raises StageExit (111) for one that cannot be read, and says what to do."""
    try:
        rules.open()
    except OSError as error:
        remedy = ""
        if os.path.isdir(rules.path) and isinstance(rules, CdbSource):
            remedy = ": it is a directory, which -i reads; -x reads what s6-accessrules-cdb-from-fs makes of it"
        elif isinstance(error, NotADirectoryError):
            remedy = ": -i reads a directory, -x a cdb file"
        elif isinstance(error, FileNotFoundError):
            remedy = ": compile the rules, or name the place where they are"
        message = f"unable to check rules in {shown(rules.path)}: {error.strerror or error}{remedy}"
        raise StageExit(program, ExitCode.SYSTEM, message) from error


def check_rules(program: str, rules: Rules, probe: Probe) -> Decision:
    """Ask a rule set.  Raises StageExit (111) for one that cannot be read or has no answer but an error."""
    try:
        decision = rules.ask(probe)
    except OSError as error:
        decision = Decision(Verdict.ERROR, error=error.strerror or str(error))
    if decision.verdict is Verdict.ERROR:
        raise StageExit(program, ExitCode.SYSTEM, f"unable to check rules in {shown(rules.path)}: {decision.error}")
    return decision


def rule_name(decision: Decision) -> str:
    """Return what the log calls the rule that decided: its key, or ``none``."""
    return "none" if decision.rule is None else _shown(decision.rule)


class CdbSource:
    """Rules of a cdb file, opened again whenever another file or other contents stand under its name.

    The long-lived server works on a private copy of the file.  Otherwise somebody who
    truncates it in place could stop the server with a fault on the mapping.
    """

    def __init__(self, path: bytes, private: bool) -> None:
        self.path, self._private = path, private
        self._rules: RuleSet | None = None
        self._fault = ""
        self.stamp: Stamp | None = None
        self._stable = False

    def ask(self, probe: Probe) -> Decision:
        """Ask the rules.  Raises OSError when the file cannot be opened or is no cdb."""
        return probe(self._current())

    def open(self) -> None:
        """Open the file anew.  Raises OSError."""
        self._stable = False
        self._current()

    def _current(self) -> RuleSet:
        """Return the rules of the file as it is now; see `is_stable` for why it may be read twice.

        What is wrong with a file is remembered until it changes, as its rules are.
        """
        now_ns, stamp = time.time_ns(), stamp_of(os.stat(self.path))
        if not (self._stable and self.stamp == stamp):
            self._open()
            if self._rules is not None and self._rules.stamp is not None:
                stamp = self._rules.stamp
            self.stamp, self._stable = stamp, is_stable(stamp, now_ns)
        if self._rules is None:
            raise OSError(self._fault)
        return self._rules

    def _open(self) -> None:
        self._stable = False
        if self._rules is not None:
            self._rules.close()
            self._rules = None
        try:
            self._rules = RuleSet.open_cdb(self.path, private=self._private)
        except RuleSetError as error:
            self._fault = str(error)


class DirectorySource:
    """Rules of a directory tree, read afresh for each client."""

    stamp = None

    def __init__(self, path: bytes) -> None:
        self.path = path

    def ask(self, probe: Probe) -> Decision:
        """Ask the rules.  Raises OSError when the directory cannot be opened.

        A missing directory has no rules, as in the reference: nobody passes.
        """
        try:
            rules = RuleSet.open_dir(self.path)
        except FileNotFoundError:
            return Decision(Verdict.NOTFOUND)
        with rules:
            return probe(rules)

    def open(self) -> None:
        """Open the directory.  Raises OSError, also where it is missing."""
        RuleSet.open_dir(self.path).close()
