"""s6-ipcserver-access: check a local client against access rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from s6tls.cli.frame.chain import Surroundings, run_link
from s6tls.cli.frame.options import Option, Synopsis, in_force, number
from s6tls.cli.s6_tcpserver_access import RULES_OPTIONS, rule_source
from s6tls.stages.ipcaccess import IpcAccess

SYNOPSIS = Synopsis(
    "s6-ipcserver-access",
    (
        Option("v", (), "verbosity", "0 errors, 1 also allowed clients, 2 also denied ones"),
        Option("E", (), None, "remove the variables that the server has set"),
        Option("e", (), None, "leave them there (the default)", alternative=True),
        Option("l", (), "localname", "take this for the socket's path instead of asking the kernel"),
        *RULES_OPTIONS,
    ),
    "prog...",
)


def stage(options: Sequence[tuple[str, bytes]], surroundings: Surroundings) -> IpcAccess:
    """Make the stage.  Raises UsageError."""
    given = in_force(SYNOPSIS.options, options)
    return IpcAccess(
        rules=rule_source(given, surroundings.long_lived),
        verbosity=number("-v", given.get("v", b"1")),
        bare="E" in given,
        local_name=given.get("l"),
    )


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
