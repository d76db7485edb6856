"""The stage of s6-envuidgid: an account's ids as the variables UID, GID and GIDLIST.

It changes no ids.  Programs that start as root and drop it later read the variables.
"""

from __future__ import annotations

import contextlib
import enum
import grp
import os
import pwd
from dataclasses import dataclass

from s6tls.accessrules.identifiers import BadId, groups_text, parse_groups, parse_id
from s6tls.accessrules.text import shown
from s6tls.posix.exitcodes import ExitCode
from s6tls.stages.preparation import Preparation
from s6tls.ucspi.image import Image, StageExit


class Account(enum.Enum):
    """What the account's text names."""

    USER_AND_GROUPS = "user, with its groups"
    USER = "user alone"
    GROUP = "group alone"
    USER_COLON_GROUP = "user:group"


@dataclass(frozen=True)
class Defaults:
    """What to use for an unknown account."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class EnvUidGid:
    """Look an account up.

    `numeric` takes numbers for ids where no account has that name.  `defaults` is None to refuse an unknown account.
    """

    account: bytes
    kind: Account = Account.USER_AND_GROUPS
    numeric: bool = False
    defaults: Defaults | None = None
    program: str = "s6-envuidgid"

    def prepare(self, preparation: Preparation) -> None:
        """Apply it for all clients.  Raises StageExit: 1 for an unknown account."""
        self.apply(Image(preparation.env, []))

    def apply(self, image: Image) -> None:
        """Set the variables.  Raises StageExit: 1 for an unknown account."""
        user, _, group = self.account.partition(b":")
        if not self.account and self.defaults is None:
            raise self._unknown("user", b"")
        if self.kind is Account.USER_COLON_GROUP:
            image.env[b"UID"] = b"%d" % self._part("user", user)
            image.env[b"GID"] = b"%d" % self._part("group", group)
        elif self.kind is Account.GROUP:
            image.env[b"GID"] = b"%d" % self._id("group", self.account)
        elif self.kind is Account.USER:
            image.env[b"UID"] = b"%d" % self._id("user", self.account)
        else:
            uid, gid, groups = self._user_and_groups()
            image.env.update({b"UID": b"%d" % uid, b"GID": b"%d" % gid, b"GIDLIST": groups_text(groups)})

    def _user_and_groups(self) -> tuple[int, int, tuple[int, ...]]:
        try:
            found = pwd.getpwnam(os.fsdecode(self.account))
        except (KeyError, ValueError):
            return self._literal() if self.numeric else self._default(self._unknown("user", self.account))
        groups = os.getgrouplist(found.pw_name, found.pw_gid)
        return found.pw_uid, found.pw_gid, tuple(gid for gid in groups if gid != found.pw_gid)

    def _literal(self) -> tuple[int, int, tuple[int, ...]]:
        """Read the account as user:group:groups, as far as it goes."""
        user, _, rest = self.account.partition(b":")
        group, colon, groups = rest.partition(b":")
        try:
            listed = parse_groups(groups) if colon or self.defaults is None else self.defaults.groups
        except BadId:
            return self._default(self._unknown("group", groups))
        return self._part("user", user), self._part("group", group), listed

    def _default(self, unknown: StageExit) -> tuple[int, int, tuple[int, ...]]:
        if self.defaults is None:
            raise unknown
        return self.defaults.uid, self.defaults.gid, self.defaults.groups

    def _part(self, kind: str, name: bytes) -> int:
        """Look up one part of user:group; what is left out is the default's, or 0."""
        if name:
            return self._id(kind, name)
        defaults = self.defaults or Defaults()
        return defaults.uid if kind == "user" else defaults.gid

    def _id(self, kind: str, name: bytes) -> int:
        with contextlib.suppress(KeyError, ValueError):
            text = os.fsdecode(name)
            return pwd.getpwnam(text).pw_uid if kind == "user" else grp.getgrnam(text).gr_gid
        if self.numeric:
            with contextlib.suppress(BadId):
                return parse_id(name)
        uid, gid, _ = self._default(self._unknown(kind, name))
        return uid if kind == "user" else gid

    def _unknown(self, kind: str, name: bytes) -> StageExit:
        return StageExit(self.program, ExitCode.DENIED, f"unknown {kind}: {shown(name)}")
