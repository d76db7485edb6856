"""The one door to a rule set, whichever form it has: opened once, and seen through what was opened."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

from s6tls.accessrules import keys
from s6tls.accessrules.errors import RuleSetError
from s6tls.accessrules.rule import NOTFOUND, Decision, Rule, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.accessrules.cdb import CdbBackend
    from s6tls.accessrules.stamp import Stamp
    from s6tls.accessrules.tree import DirectoryBackend

    AnyBackend: TypeAlias = CdbBackend | DirectoryBackend

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Backend(Protocol):
    """What a form of rule sets has to offer."""

    stamp: Stamp | None

    def first(self, keys: Iterable[bytes]) -> tuple[bytes, Rule] | None:
        """Return the first of `keys` that names a rule, and the rule.  Raises OSError or RuleSetError."""

    def close(self) -> None:
        """Let go of what is open."""


def open_backend(path: str | bytes, *, private: bool = False) -> AnyBackend:
    """Open a rule set: a directory as a tree, anything else as a cdb, or with `private` as a copy of one in memory.

    Raises OSError or RuleSetError.
    """
    descriptor = os.open(path, _OPEN)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        from s6tls.accessrules.tree import DirectoryBackend

        return DirectoryBackend(descriptor)
    from s6tls.accessrules.cdb import CdbBackend

    return CdbBackend(descriptor, private)


class RuleSet:
    """An open rule set, and the questions that can be put to it.

    Every question is answered with a Decision; whatever goes wrong on the way is
    Verdict.ERROR with a text, never an exception and never an allow.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @classmethod
    def open(cls, path: str | bytes) -> RuleSet:
        """Open a rule set: a directory as a tree, anything else as a cdb.  Raises OSError or RuleSetError."""
        return cls(open_backend(path))

    @classmethod
    def open_dir(cls, path: str | bytes) -> RuleSet:
        """Open a directory tree, which will be read afresh at every question.  Raises OSError."""
        from s6tls.accessrules.tree import DIRECTORY, DirectoryBackend

        return cls(DirectoryBackend(os.open(path, DIRECTORY)))

    @classmethod
    def open_cdb(cls, path: str | bytes, *, private: bool = False) -> RuleSet:
        """Open a cdb file.  Raises OSError or RuleSetError.

        Whoever truncates a mapped file stops the process that mapped it with SIGBUS at its next
        look.  A long-lived server passes `private` and works on a copy in memory.
        """
        from s6tls.accessrules.cdb import CdbBackend

        return cls(CdbBackend(os.open(path, _OPEN), private))

    @property
    def stamp(self) -> Stamp | None:
        """Device, inode, size, mtime and ctime (ns) of a cdb file when it was opened; None for a directory."""
        return self._backend.stamp

    def close(self) -> None:
        """Let go of the files; closing twice does no harm."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_address(self, address: str | bytes) -> Decision:
        """Decide about an IPv4 or IPv6 address, given as text.  Raises AddressError if it is none."""
        packed = keys.parse_address(address)
        return self._decide(keys.ip4_keys(packed) if len(packed) == 4 else keys.ip6_keys(packed))

    def check_name(self, name: str | bytes) -> Decision:
        """Decide about a host name."""
        return self._decide(keys.name_keys(os.fsencode(name)))

    def check_uidgid(self, uid: int, gid: int, euid: int | None = None, egid: int | None = None) -> Decision:
        """Decide about a local client.  `euid` and `egid` say who ``self`` is, by default this process."""
        return self._decide(keys.uidgid_keys(uid, gid, euid, egid))

    def _decide(self, probes: Iterable[bytes]) -> Decision:
        try:
            found = self._backend.first(probes)
        except (OSError, RuleSetError) as error:
            return Decision(Verdict.ERROR, error=str(error))
        if found is None:
            return NOTFOUND
        key, rule = found
        return Decision(Verdict.ALLOW if rule.allow else Verdict.DENY, key, rule.env, rule.exec)
