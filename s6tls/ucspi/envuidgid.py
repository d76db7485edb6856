"""The stage of s6-envuidgid: an account's ids as the variables UID, GID and GIDLIST.

It changes no ids; programs that start as root and drop it later read the variables.
"""

from __future__ import annotations

import enum
import grp
import os
import pwd
from dataclasses import dataclass

from s6tls.accessrules.errors import shown
from s6tls.ucspi.identity import BadIdentity, parse_id
from s6tls.ucspi.image import Image, Refused


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
    groups: bytes = b""


@dataclass(frozen=True)
class EnvUidGid:
    """Look an account up.

    `numeric` takes numbers for ids when no account has that name.  `defaults` is None to refuse an unknown account.
    """

    account: bytes
    kind: Account = Account.USER_AND_GROUPS
    numeric: bool = False
    defaults: Defaults | None = None
    program: str = "s6-envuidgid"

    def apply(self, image: Image) -> None:
        """Set the variables.  Raises Refused: 1 for an unknown account."""
        if self.kind is Account.USER_COLON_GROUP:
            user, _, group = self.account.partition(b":")
            image.env[b"UID"] = b"%d" % self._uid(user)
            image.env[b"GID"] = b"%d" % self._gid(group)
        elif self.kind is Account.GROUP:
            image.env[b"GID"] = b"%d" % self._gid(self.account)
        elif self.kind is Account.USER:
            image.env[b"UID"] = b"%d" % self._uid(self.account)
        else:
            self._apply_all(image)

    def _apply_all(self, image: Image) -> None:
        uid, gid, groups = self._user_and_groups()
        image.env.update({b"UID": b"%d" % uid, b"GID": b"%d" % gid, b"GIDLIST": groups})

    def _user_and_groups(self) -> tuple[int, int, bytes]:
        try:
            found = pwd.getpwnam(os.fsdecode(self.account))
        except (KeyError, ValueError):
            if self.numeric:
                user, colon, group = self.account.partition(b":")
                try:
                    return parse_id(user), parse_id(group if colon else user), b""
                except BadIdentity:
                    pass
            if self.defaults is None:
                raise self._unknown("user", self.account) from None
            return self.defaults.uid, self.defaults.gid, self.defaults.groups
        groups = [gid for gid in os.getgrouplist(found.pw_name, found.pw_gid) if gid != found.pw_gid]
        return found.pw_uid, found.pw_gid, b",".join(b"%d" % gid for gid in groups)

    def _uid(self, name: bytes) -> int:
        try:
            return pwd.getpwnam(os.fsdecode(name)).pw_uid
        except (KeyError, ValueError):
            return self._fallback("user", name, None if self.defaults is None else self.defaults.uid)

    def _gid(self, name: bytes) -> int:
        try:
            return grp.getgrnam(os.fsdecode(name)).gr_gid
        except (KeyError, ValueError):
            return self._fallback("group", name, None if self.defaults is None else self.defaults.gid)

    def _fallback(self, kind: str, name: bytes, default: int | None) -> int:
        if self.numeric:
            try:
                return parse_id(name)
            except BadIdentity:
                pass
        if default is None:
            raise self._unknown(kind, name)
        return default

    def _unknown(self, kind: str, name: bytes) -> Refused:
        return Refused(self.program, 1, f"unknown {kind}: {shown(name)}")
