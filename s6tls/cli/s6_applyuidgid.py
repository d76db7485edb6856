"""s6-applyuidgid: run a program under other ids."""

from __future__ import annotations

from typing import NoReturn

from s6tls.accessrules.identifiers import BadId, parse_groups, parse_id
from s6tls.cli.frame.chain import Runtime, run_link
from s6tls.cli.frame.options import LOG_FORMAT, Given, Option, Synopsis, UsageError
from s6tls.stages.applyuidgid import ApplyUidGid

IDENTITY_OPTIONS = (
    Option("u", ("uid",), "uid", "set the user id to this number"),
    Option("g", ("gid",), "gid", "set the group id to this number"),
    Option(
        "G",
        ("gidlist",),
        "gidlist",
        'set the supplementary groups to these numbers, with commas between them; `-G ""` is none',
    ),
    Option("U", ("envuidgid",), None, "take all of them from the variables `UID`, `GID` and `GIDLIST`"),
)
SYNOPSIS = Synopsis(
    "s6-applyuidgid",
    (Option("z", (), None, "remove `UID`, `GID` and `GIDLIST` from the environment"), *IDENTITY_OPTIONS, LOG_FORMAT),
    "prog...",
)


def stage(given: Given, _: Runtime) -> ApplyUidGid:
    """Make the stage.  Raises UsageError."""
    return apply_ids(given, unexport=given.flag("z"))


def apply_ids(given: Given, *, unexport: bool) -> ApplyUidGid:
    """Make the stage from IDENTITY_OPTIONS; -U overrides what stands before it.  Raises UsageError."""

    def counting(name: str) -> bytes | None:
        return given.value(name) if given.last(name, "U") == name else None

    uid, gid, groups = counting("u"), counting("g"), counting("G")
    try:
        return ApplyUidGid(
            uid=None if uid is None else parse_id(uid),
            gid=None if gid is None else parse_id(gid),
            groups=None if groups is None else parse_groups(groups),
            from_env=given.flag("U"),
            unexport=unexport,
        )
    except BadId as error:
        raise UsageError(str(error)) from error


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
