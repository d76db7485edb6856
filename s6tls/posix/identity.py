"""User, group and supplementary groups: taken in order, and verified.

`Identity.take` drops root for good.  Order matters (groups can only be set by
root, and the group only while the user is still root), and each step is checked
afterwards: a drop that can be undone is not a drop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from s6tls.accessrules.ids import BadId, parse_groups, parse_id
from s6tls.ucspi.image import Image, Refused

Read = TypeVar("Read")


class BadIdentity(Exception):
    """An id could not be taken for good."""


@dataclass(frozen=True)
class Identity:
    """The ids to run under.  None leaves that id as it is; the supplementary groups are always replaced."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...] = ()

    def take(self) -> None:
        """Make this process run under these ids, for good.

        Raises OSError when the kernel refuses, BadIdentity when root could be had back.
        """
        try:
            os.setgroups(self.groups)
        except ValueError as error:
            raise BadIdentity(f"too many groups: {len(self.groups)}") from error
        if self.gid is not None:
            os.setresgid(self.gid, self.gid, self.gid)
        if self.uid is not None:
            os.setresuid(self.uid, self.uid, self.uid)
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
class ApplyUidGid:
    """The stage of s6-applyuidgid: options over the variables UID, GID and GIDLIST.

    `uid`, `gid` and `groups` are those of the command line, None where not given.
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    from_env: bool = False
    unexport: bool = False
    program: str = "s6-applyuidgid"

    def apply(self, image: Image) -> None:
        """Give `image` its identity.  Raises Refused (100) for a missing or invalid variable."""
        uid, gid, groups = self.uid, self.gid, self.groups
        if self.from_env:
            uid = self._variable(image.env, b"UID", parse_id) if uid is None else uid
            gid = self._variable(image.env, b"GID", parse_id) if gid is None else gid
            groups = self._variable(image.env, b"GIDLIST", parse_groups) if groups is None else groups
        if self.unexport:
            image.unset((b"UID", b"GID", b"GIDLIST"))
        if (uid, gid, groups) != (None, None, None):
            image.identity = Identity(uid, gid, groups or ())

    def _variable(self, env: Mapping[bytes, bytes], name: bytes, parse: Callable[[bytes], Read]) -> Read:
        if name not in env:
            raise Refused(self.program, 100, f"{name.decode()} not set")
        try:
            return parse(env[name])
        except BadId as error:
            raise Refused(self.program, 100, f"invalid ${name.decode()}") from error
