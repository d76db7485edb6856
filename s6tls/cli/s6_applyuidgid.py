"""s6-applyuidgid: run a program under other ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from s6tls.accessrules.ids import BadId, parse_groups, parse_id
from s6tls.cli.frame.chain import Surroundings, run_link
from s6tls.cli.frame.options import Option, Synopsis, UsageError
from s6tls.stages.applyuidgid import ApplyUidGid

IDENTITY_OPTIONS = (
    Option("u", ("uid",), "uid", "set the user id to uid"),
    Option("g", ("gid",), "gid", "set the group id to gid"),
    Option("G", ("gidlist",), "gidlist", "set the supplementary groups to this comma-separated list of group ids"),
    Option("U", ("envuidgid",), None, "take the ids from the variables UID, GID and GIDLIST"),
)
SYNOPSIS = Synopsis(
    "s6-applyuidgid",
    (Option("z", (), None, "remove UID, GID and GIDLIST from the environment"), *IDENTITY_OPTIONS),
    "prog...",
)


def stage(options: Sequence[tuple[str, bytes]], _: Surroundings) -> ApplyUidGid:
    """Make the stage; -U overrides what stands before it.  Raises UsageError for text that is no id."""
    given: dict[str, bytes] = {}
    for name, value in options:
        if name == "U":
            for overridden in "ugG":
                given.pop(overridden, None)
        given[name] = value
    try:
        return ApplyUidGid(
            uid=parse_id(given["u"]) if "u" in given else None,
            gid=parse_id(given["g"]) if "g" in given else None,
            groups=parse_groups(given["G"]) if "G" in given else None,
            from_env="U" in given,
            unexport="z" in given,
        )
    except BadId as error:
        raise UsageError(str(error)) from error


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
