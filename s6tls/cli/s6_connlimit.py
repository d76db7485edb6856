"""s6-connlimit: refuse a client that comes too often, or already has its maximum of connections."""

from __future__ import annotations

from typing import NoReturn

from s6tls.cli.frame.chain import Runtime, run_link
from s6tls.cli.frame.options import LOG_FORMAT, Given, Synopsis
from s6tls.stages.connlimit import ConnLimit

SYNOPSIS = Synopsis("s6-connlimit", (LOG_FORMAT,), "prog...")


def stage(_given: Given, runtime: Runtime) -> ConnLimit:
    """Make the stage."""
    return ConnLimit(runtime.rule_rates())


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
