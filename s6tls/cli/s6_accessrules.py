"""s6-accessrules: put a question to a rule set."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable
from keyword import iskeyword
from types import ModuleType

from s6tls.accessrules.text import shown
from s6tls.cli.frame.options import Synopsis, UsageError
from s6tls.cli.frame.program import outcome, run
from s6tls.posix.process import occupy_standard_descriptors

COMMANDS = (
    ("explain", "who gets in, and why"),
    ("lint", "what is wrong or odd"),
    ("diff", "for whom another rule set decides differently"),
    ("coverage", "how many addresses are allowed, denied and undecided"),
    ("minimise", "the fewest rules that decide equally"),
    ("replay", "what is decided for the clients of a log"),
    ("suggest", "allow rules for the clients of a log"),
    ("tighten", "narrower rules, which decide equally for the clients of a log"),
    ("expect", "whether all is decided as expected"),
    ("import", "rules from the forms of other programs"),
    ("export", "rules in the forms of other programs"),
    ("sync", "drops in the kernel whom rules deny"),
    ("build", "a cdb from rules in text form"),
    ("map", "a picture of who gets in"),
    ("report", "all of this on one page, for a browser"),
)
SYNOPSIS = Synopsis("s6-accessrules", (), "subcommand [ options ] words...", COMMANDS)


def main() -> None:
    """Run the program."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that has seen enough is no failure
    gc.disable()  # of millions of rules and networks none is in a cycle: a quarter of the time would go into looking
    occupy_standard_descriptors()
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115  # for good
    run(SYNOPSIS, body)


def body(argv: list[bytes]) -> int:
    """Run the subcommand that the first word names."""
    _, words = SYNOPSIS.parse(argv)
    if not words:
        raise UsageError("no subcommand")
    name = shown(words[0])
    if name not in dict(COMMANDS):
        raise UsageError(f"unknown subcommand: {name} (expected {', '.join(dict(COMMANDS))})")
    module = subcommand(name)
    return outcome(module.SYNOPSIS, lambda argv: _flushed(module.body, argv), words[1:])


def subcommand(name: str) -> ModuleType:
    """Return the module of one of `COMMANDS`."""
    return importlib.import_module(f"s6tls.cli.accessrules.{name}{'_' if iskeyword(name) else ''}")


def _flushed(body: Callable[[list[bytes]], int], argv: list[bytes]) -> int:
    """Run `body` and write out what it says, also if it fails.

    Where that cannot be written, the interpreter must not try again at its end.
    """
    try:
        code = body(argv)
        sys.stdout.flush()
    except BaseException:
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise
    return code
