"""User, group and supplementary groups: taken in order, and verified.

`Identity.take` drops root for good.  Order matters (groups can only be set by
root, and the group only while the user is still root).  Each step is checked
afterwards: a drop that can be undone is not a drop.
"""

from __future__ import annotations

import functools
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass

_NOBODY = 65534


class BadIdentity(Exception):
    """An id could not be taken for good."""


def why_not(error: OSError | BadIdentity) -> str:
    """Say why ids could not be taken, and what to do about it if only root can take them."""
    if isinstance(error, PermissionError):
        return f"{error.strerror}: only root can take other ids"
    return str(getattr(error, "strerror", None) or error)


@dataclass(frozen=True)
class Identity:
    """The ids to run under.  None leaves that id as it is; the supplementary groups are always replaced."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...] = ()

    def take(self, give_up: Callable[[], object] = lambda: None) -> None:
        """Make this process run under these ids, for good.

        `give_up` lets go of what else allows a process to take ids.  Raises OSError when the kernel refuses,
        BadIdentity when root could be regained.
        """
        try:
            os.setgroups(self.groups)
        except ValueError as error:
            raise BadIdentity(f"too many groups: {len(self.groups)}") from error
        if self.gid is not None:
            os.setresgid(self.gid, self.gid, self.gid)
        if self.uid is not None:
            os.setresuid(self.uid, self.uid, self.uid)
        give_up()
        self._verify()

    def _verify(self) -> None:
        if set(os.getgroups()) != set(self.groups):
            raise BadIdentity("supplementary groups are not those asked for")
        if self.gid is not None and set(os.getresgid()) != {self.gid}:
            raise BadIdentity("group id is not the one asked for")
        if self.uid is None:
            return
        if set(os.getresuid()) != {self.uid}:
            raise BadIdentity("user id is not the one asked for")
        if self.uid != 0:
            try:
                os.setuid(0)
            except OSError:
                return
            raise BadIdentity("root could be had back")


@dataclass(frozen=True)
class IdRange:
    """Numbers of which each process takes one, for its user and its group.

    It is the one at the place of its process id, and after the last the first: where there are as many as process ids,
    no two processes share one.
    """

    first: int
    last: int

    def own(self) -> Identity:
        """Return this process's ids."""
        number = self.first + os.getpid() % (self.last - self.first + 1)
        return Identity(number, number)


@functools.cache
def own_account(name: str) -> Identity:
    """Return the ids of an account that is there for one purpose, or else those of nobody.

    An account with the user or the group of root is no such account.  Looked up once: what changes later is not seen.
    """
    for candidate in (name, "nobody"):
        try:
            account = pwd.getpwnam(candidate)
        except KeyError:
            continue
        if account.pw_uid and account.pw_gid:
            return Identity(account.pw_uid, account.pw_gid)
    return Identity(_NOBODY, _NOBODY)


@functools.lru_cache(maxsize=1024)
def primary_group(uid: int) -> int:
    """Return the group of a user's account; of an id without an account, the group of the same number.

    Looked up once: what changes later is not seen.
    """
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid
