"""s6-envuidgid: run a program with an account's ids in UID, GID and GIDLIST."""

from __future__ import annotations

from typing import NoReturn

from s6tls.accessrules.identifiers import BadId, parse_groups, parse_id
from s6tls.cli.frame.chain import Runtime, run_link
from s6tls.cli.frame.options import LOG_FORMAT, Given, Option, Synopsis, UsageError
from s6tls.stages.envuidgid import Account, Defaults, EnvUidGid

SYNOPSIS = Synopsis(
    "s6-envuidgid",
    (
        Option("u", (), None, "`account` is a user: set `UID` only"),
        Option("g", (), None, "`account` is a group: set `GID` only", alternative=True),
        Option(
            "B",
            (),
            None,
            "`account` is `user:group`: set `UID` and `GID`. One that is left out is 0, or the default's",
            alternative=True,
        ),
        Option(
            "n",
            (),
            None,
            "take a name that no account has for a number. Without `-u`, `-g` and `-B`, an unknown account is read as "
            "`user:group:gidlist`, as far as it goes",
        ),
        Option("i", (), None, "fail (1) when the account is unknown (the default)"),
        Option(
            "D",
            (),
            "uid:gid:gidlist",
            "use these ids when the account is unknown. What is left out at the end is 0, or empty",
            alternative=True,
        ),
        LOG_FORMAT,
    ),
    "account prog...",
)
_KINDS = {"u": Account.USER, "g": Account.GROUP, "B": Account.USER_COLON_GROUP}


def stage(given: Given, _: Runtime) -> EnvUidGid:
    """Make the stage.  Raises UsageError."""
    (account,) = given.words
    kind, ids = given.last(*_KINDS), given.value("D")
    return EnvUidGid(
        account,
        Account.USER_AND_GROUPS if kind is None else _KINDS[kind],
        numeric=given.flag("n"),
        defaults=None if ids is None else _defaults(ids),
    )


def _defaults(text: bytes) -> Defaults:
    uid, colon, rest = text.partition(b":")
    gid, _, groups = rest.partition(b":")
    try:
        return Defaults(parse_id(uid or (colon and b"0")), parse_id(gid or b"0"), parse_groups(groups))
    except BadId as error:
        raise UsageError(str(error)) from error


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
