"""A rule set that follows its file: what is compiled now decides about the next connection."""

from __future__ import annotations

import os

from s6tls.accessrules import Decision, RuleSet, RuleSetError, Verdict


class CdbSource:
    """Rules of a cdb file, opened again whenever another file or other contents stand under its name.

    The long-lived server works on a private copy of the file, so that nobody who
    truncates it in place can stop the server with a fault on the mapping.
    """

    def __init__(self, path: bytes, private: bool) -> None:
        self._path, self._private = path, private
        self._rules: RuleSet | None = None

    def check_address(self, address: bytes) -> Decision:
        """Decide about an address.  Raises OSError when the file cannot be opened or is no cdb."""
        return self._current().check_address(address)

    def _current(self) -> RuleSet:
        now = os.stat(self._path)
        stamp = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        if self._rules is not None:
            if self._rules.stamp == stamp:
                return self._rules
            self._rules.close()
            self._rules = None
        try:
            self._rules = RuleSet.open_cdb(self._path, private=self._private)
        except RuleSetError as error:
            raise OSError(str(error)) from error
        return self._rules


class DirectorySource:
    """Rules of a directory tree, read afresh for each client."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def check_address(self, address: bytes) -> Decision:
        """Decide about an address.  Raises OSError when the directory cannot be opened.

        A directory that is not there holds no rule for anybody, as in the reference; nobody passes.
        """
        try:
            rules = RuleSet.open_dir(self._path)
        except FileNotFoundError:
            return Decision(Verdict.NOTFOUND)
        with rules:
            return rules.check_address(address)
