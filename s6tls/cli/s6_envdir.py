"""s6-envdir: run a program with variables from the files of a directory."""

from __future__ import annotations

from typing import NoReturn

from s6tls.cli.frame.chain import Runtime, run_link
from s6tls.cli.frame.options import LOG_FORMAT, Given, Option, Synopsis
from s6tls.stages.envdir import EnvDir

SYNOPSIS = Synopsis(
    "s6-envdir",
    (
        Option("I", (), None, "go on without changes when `dir` does not exist"),
        Option("i", (), None, "fail when `dir` does not exist (the default)", alternative=True),
        Option("n", (), None, "keep the blanks at the end of the line; with `-f`, keep the file's last newline"),
        Option("f", (), None, "take the whole file, not only its first line. Nothing is removed but a last newline"),
        Option("L", (), None, "take lines and files longer than 4095 bytes"),
        Option("c", (), "nullis", "put the first character of this for each NUL, instead of a newline"),
        LOG_FORMAT,
    ),
    "dir prog...",
)


def stage(given: Given, _: Runtime) -> EnvDir:
    """Make the stage."""
    (directory,) = given.words
    return EnvDir(
        directory,
        loose=given.flag("I"),
        verbatim=given.flag("f"),
        chomp=not given.flag("n"),
        clamp=not given.flag("L"),
        nul=given.value("c", b"\n")[:1],
    )


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
