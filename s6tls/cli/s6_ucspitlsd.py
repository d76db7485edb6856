"""s6-ucspitlsd: a program that may start TLS when it wants (STARTTLS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, cast

from s6tls.cli import s6_tlsd
from s6tls.cli.frame.chain import Surroundings, run_link
from s6tls.cli.frame.options import Synopsis
from s6tls.stages.ucspitlsd import Ucspitlsd
from s6tls.tls.delayed import PROGRAM

if TYPE_CHECKING:
    from s6tls.stages.tlsd import EngineStarter

SYNOPSIS = Synopsis(PROGRAM, s6_tlsd.SYNOPSIS.options, s6_tlsd.SYNOPSIS.words)


def stage(options: Sequence[tuple[str, bytes]], surroundings: Surroundings) -> Ucspitlsd:
    """Make the stage.  Raises UsageError."""
    carrier = cast("EngineStarter", surroundings.tls_carrier())
    return Ucspitlsd(s6_tlsd.engine_options(options), s6_tlsd.keeps_parameters(options), carrier)


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
