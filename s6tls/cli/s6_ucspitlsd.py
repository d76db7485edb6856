"""s6-ucspitlsd: a program that may start TLS when it wants (STARTTLS)."""

from __future__ import annotations

from typing import NoReturn

from s6tls.cli import s6_tlsd
from s6tls.cli.frame.chain import Runtime, run_link
from s6tls.cli.frame.options import Given, Synopsis
from s6tls.stages.ucspitlsd import Ucspitlsd
from s6tls.tls.delayed import PROGRAM

SYNOPSIS = Synopsis(
    PROGRAM,
    tuple(row for row in s6_tlsd.SYNOPSIS.table if row not in s6_tlsd.PROGRAM_OPTIONS),
    s6_tlsd.SYNOPSIS.words,
)


def stage(given: Given, runtime: Runtime) -> Ucspitlsd:
    """Make the stage.  Raises UsageError."""
    given.number("v", 1)
    return Ucspitlsd(
        s6_tlsd.engine_options(given, runtime.patience_ms, runtime.jail), given.flag("Z"), runtime.engine_starter()
    )


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
