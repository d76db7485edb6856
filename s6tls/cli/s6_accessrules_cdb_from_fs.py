"""s6-accessrules-cdb-from-fs: compile a rule set from a directory tree into a cdb file."""

from __future__ import annotations

from s6tls.accessrules.compile import DEFAULT_MODE, compile_tree
from s6tls.accessrules.errors import RuleSetError, UsageProblem, shown
from s6tls.accessrules.interruption import Interrupted, Interruption
from s6tls.cli.options import Option, Synopsis, UsageError
from s6tls.cli.program import SYSTEM, USAGE, Failure, run
from s6tls.ucspi.log import log

SYNOPSIS = Synopsis(
    "s6-accessrules-cdb-from-fs",
    (
        Option("m", ("mode",), "mode", "permissions of cdbfile, in octal (default 0600)"),
        Option("", ("strict",), None, "refuse a tree with rules that can never match or cannot be meant"),
    ),
    "cdbfile dir",
)


def main() -> None:
    """Run the program."""
    run(SYNOPSIS, compile_from)


def compile_from(argv: list[bytes]) -> int:
    """Compile what these words say.  Returns 0 or raises what `run` turns into an exit code."""
    options, words = SYNOPSIS.parse(argv)
    if len(words) < 2:
        raise UsageError
    mode, strict = DEFAULT_MODE, False
    for name, value in options:
        if name == "m":
            mode = _mode(value)
        else:
            strict = True
    cdbfile, directory = words[:2]
    if strict:
        _refuse_problems(directory)
    _compile(cdbfile, directory, mode)
    return 0


def _compile(cdbfile: bytes, directory: bytes, mode: int) -> None:
    try:
        with Interruption() as interruption:
            compile_tree(cdbfile, directory, mode=mode, warn=_warn, checkpoint=interruption.checkpoint)
    except UsageProblem as error:
        raise Failure(USAGE, str(error)) from error
    except RuleSetError as error:
        raise Failure(SYSTEM, str(error)) from error
    except OSError as error:
        raise Failure(SYSTEM, f"unable to write {shown(cdbfile)}: {error.strerror or error}") from error
    except Interrupted:
        raise Failure(SYSTEM, "interrupted") from None


def _refuse_problems(directory: bytes) -> None:
    from s6tls.accessrules.strict import problems

    found = 0
    try:
        for problem in problems(directory):
            log(SYNOPSIS.program, "error", problem)
            found += 1
    except RuleSetError as error:
        raise Failure(SYSTEM, str(error)) from error
    if found:
        raise Failure(USAGE, f"rule set has {found} problem{'s' if found > 1 else ''}")


def _mode(value: bytes) -> int:
    if not value or len(value) > 5 or value.strip(b"01234567") or int(value, 8) > 0o7777:
        raise Failure(USAGE, f"mode is not an octal number up to 7777: {shown(value)}")
    return int(value, 8)


def _warn(message: str) -> None:
    log(SYNOPSIS.program, "warning", message)
