"""The stage of s6-applyuidgid: the ids under which the next program runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from s6tls.accessrules.identifiers import BadId, parse_groups, parse_id
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.identity import Identity
from s6tls.stages.preparation import Preparation
from s6tls.ucspi.image import Image, StageExit
from s6tls.ucspi.spawn import take, try_in_a_child

Read = TypeVar("Read")


class NotSet(StageExit):
    """A variable is missing."""


@dataclass(frozen=True)
class ApplyUidGid:
    """Options over the variables UID, GID and GIDLIST.

    `uid`, `gid` and `groups` are those of the command line, None where not given.
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    from_env: bool = False
    unexport: bool = False
    program: str = "s6-applyuidgid"

    def prepare(self, preparation: Preparation) -> None:
        """Try the ids that programs get.  Raises StageExit: 100 for a variable, 111 if the ids are refused."""
        image = Image(preparation.env, [])
        try:
            self.apply(image)
        except NotSet as missing:
            preparation.lacks(missing)
        if image.identity is not None:
            try_in_a_child(self.program, partial(take, image.identity, self.program))

    def apply(self, image: Image) -> None:
        """Give `image` its identity.  Raises StageExit (100) for a missing or invalid variable."""
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
            raise NotSet(self.program, ExitCode.USAGE, f"{name.decode()} not set")
        try:
            return parse(env[name])
        except BadId as error:
            raise StageExit(self.program, ExitCode.USAGE, f"invalid ${name.decode()}") from error
