"""s6-envuidgid: run a program with an account's ids in UID, GID and GIDLIST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from s6tls.accessrules.ids import BadId, parse_groups, parse_id
from s6tls.cli.frame.chain import Surroundings, run_link
from s6tls.cli.frame.options import Option, Synopsis, UsageError
from s6tls.stages.envuidgid import Account, Defaults, EnvUidGid

SYNOPSIS = Synopsis(
    "s6-envuidgid",
    (
        Option("u", (), None, "account is a user: set UID only"),
        Option("g", (), None, "account is a group: set GID only", alternative=True),
        Option("B", (), None, "account is user:group: set UID and GID", alternative=True),
        Option("n", (), None, "take numbers for ids when no account has that name"),
        Option("i", (), None, "fail (1) when the account is unknown (the default)"),
        Option("D", (), "uid:gid:gidlist", "use these ids when the account is unknown", alternative=True),
    ),
    "account prog...",
)
_KINDS = {"u": Account.USER, "g": Account.GROUP, "B": Account.USER_COLON_GROUP}


def stage(options: Sequence[tuple[str, bytes]], _: Surroundings) -> EnvUidGid:
    """Make the stage.  Raises UsageError."""
    kind, defaults = Account.USER_AND_GROUPS, None
    for name, value in options:
        if name in _KINDS:
            kind = _KINDS[name]
        elif name == "D":
            defaults = _defaults(value)
        elif name == "i":
            defaults = None
    return EnvUidGid(dict(options)["account"], kind, numeric=any(name == "n" for name, _ in options), defaults=defaults)


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
