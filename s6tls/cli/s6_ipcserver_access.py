"""s6-ipcserver-access: check a local client against access rules."""

from __future__ import annotations

from typing import NoReturn

from s6tls.cli.frame.chain import Runtime, run_link
from s6tls.cli.frame.options import LOG_FORMAT, Given, Option, Synopsis
from s6tls.cli.s6_tcpserver_access import RULES_OPTIONS, rule_source
from s6tls.stages.ipcaccess import IpcAccess

SYNOPSIS = Synopsis(
    "s6-ipcserver-access",
    (
        Option(
            "v",
            (),
            "verbosity",
            "0: say only what is wrong. 1: also which clients are let in (the default). "
            "2: also who is refused and why, and that there are no rules",
        ),
        Option("E", (), None, "remove the variables that the server has set, and `PROTO`"),
        Option("e", (), None, "leave them there (the default)", alternative=True),
        Option("l", (), "localname", "take this for `IPCLOCALPATH` instead of asking the kernel"),
        *RULES_OPTIONS,
        LOG_FORMAT,
    ),
    "prog...",
)


def stage(given: Given, runtime: Runtime) -> IpcAccess:
    """Make the stage.  Raises UsageError."""
    return IpcAccess(
        rules=rule_source(given, runtime.long_lived),
        verbosity=given.number("v", 1),
        bare=given.flag("E"),
        local_name=given.value("l"),
    )


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
