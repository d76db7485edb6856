"""s6-envdir: run a program with variables from the files of a directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from s6tls.cli.frame.chain import Surroundings, run_link
from s6tls.cli.frame.options import Option, Synopsis, in_force
from s6tls.stages.envdir import EnvDir

SYNOPSIS = Synopsis(
    "s6-envdir",
    (
        Option("I", (), None, "go on without changes when dir does not exist"),
        Option("i", (), None, "fail when dir does not exist (the default)", alternative=True),
        Option("n", (), None, "keep trailing blanks; with -f, keep the last newline"),
        Option("f", (), None, "take whole files as values, not their first lines"),
        Option("L", (), None, "read files whole, not their first 4095 bytes"),
        Option("c", (), "nullis", "put this character for each NUL (a newline)"),
    ),
    "dir prog...",
)


def stage(options: Sequence[tuple[str, bytes]], _: Surroundings) -> EnvDir:
    """Make the stage.  Raises UsageError."""
    given = in_force(SYNOPSIS.options, options)
    return EnvDir(
        given["dir"],
        loose="I" in given,
        verbatim="f" in given,
        chomp="n" not in given,
        clamp="L" not in given,
        nul=given.get("c", b"\n")[:1],
    )


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
