"""s6-connlimit: refuse a client that already has its maximum of connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from s6tls.cli.frame.chain import Surroundings, run_link
from s6tls.cli.frame.options import Synopsis
from s6tls.stages.connlimit import ConnLimit

SYNOPSIS = Synopsis("s6-connlimit", (), "prog...")


def stage(_options: Sequence[tuple[str, bytes]], _: Surroundings) -> ConnLimit:
    """Make the stage."""
    return ConnLimit()


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
