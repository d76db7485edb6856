"""s6-accessrules-cdb-from-fs: compile a rule set from a directory tree into a cdb file."""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from s6tls.accessrules.cdb import DEFAULT_MODE, write_cdb
from s6tls.accessrules.compile import compile_tree
from s6tls.accessrules.deferred_signals import DeferredSignals, Interrupted
from s6tls.accessrules.errors import RuleSetError, UsageProblem
from s6tls.accessrules.text import shown
from s6tls.cli.frame.options import Option, Synopsis, file_mode
from s6tls.cli.frame.program import Failure, run
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s6tls.accessrules import Rule
    from s6tls.audit.policy.expectations import Expectation

    Expected = list[tuple[bytes, Expectation]]

SYNOPSIS = Synopsis(
    "s6-accessrules-cdb-from-fs",
    (
        Option(
            "m",
            ("mode",),
            "mode",
            "permissions of `cdbfile`, an octal number up to 7777. Default: 0600, whatever the umask",
        ),
        Option(
            "",
            ("expect",),
            "FILE",
            "keep the old `cdbfile` if an [expectation](s6-accessrules-expect.md) in FILE fails; may be repeated",
        ),
        Option(
            "",
            ("strict",),
            None,
            "refuse a tree with what [s6-accessrules lint](s6-accessrules-lint.md) calls an error; one line for each. "
            "The rules that are compiled are those that lint saw",
        ),
    ),
    "cdbfile dir",
    ignores_surplus=True,
)


def main() -> None:
    """Run the program."""
    run(SYNOPSIS, compile_from)


def compile_from(argv: list[bytes]) -> int:
    """Compile what these words say.  Returns 0 or raises what `run` turns into an exit code."""
    given = SYNOPSIS.read(argv)
    mode = file_mode(given, DEFAULT_MODE)
    cdbfile, directory = given.words
    if given.flag("strict"):
        compiler = partial(write_cdb, cdbfile, _faultless(directory))
    else:
        compiler = partial(compile_tree, cdbfile, directory, warn=_warn)
    _compile(compiler, cdbfile, mode, _expectations(given.values("expect")))
    return 0


def _compile(compiler: Callable[..., None], cdbfile: bytes, mode: int, expected: Expected) -> None:
    try:
        with DeferredSignals() as interruption:
            halt = interruption.checkpoint
            check = partial(_refuse_surprises, expected, halt) if expected else lambda _: None
            compiler(mode=mode, checkpoint=halt, check=check)
    except UsageProblem as error:
        raise Failure(ExitCode.USAGE, str(error)) from error
    except RuleSetError as error:
        raise Failure(ExitCode.SYSTEM, str(error)) from error
    except OSError as error:
        raise Failure(ExitCode.SYSTEM, f"unable to write {shown(cdbfile)}: {error.strerror or error}") from error
    except Interrupted:
        raise Failure(ExitCode.SYSTEM, "interrupted") from None


def _expectations(files: list[bytes]) -> Expected:
    if not files:
        return []
    from s6tls.cli.accessrules.expect import expectations_in

    return [(file, expectation) for file in files for expectation in expectations_in(file)]


def _refuse_surprises(expected: Expected, checkpoint: Callable[[], None], compiled: bytes) -> None:
    """Judge a compiled file by what is expected of it.  Raises Failure."""
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.policy.expect import violations_of
    from s6tls.cli.accessrules.expect import tally

    def told(_what: str, _done: int) -> None:
        checkpoint()

    loaded = LoadedRules.load(compiled, progress=told)
    failing = 0
    for file, expectation in expected:
        violations = list(violations_of(expectation, loaded, progress=told))
        for violation in violations:
            log(SYNOPSIS.program, "error", f"{shown(file)}: {'; '.join(violation.lines())}")
        failing += bool(violations)
    if failing:
        raise Failure(ExitCode.FINDINGS, f"{tally(failing, len(expected))}: the cdb file is left as it was")


def _faultless(directory: bytes) -> Iterable[tuple[bytes, Rule]]:
    """Read a tree once, and return its rules if lint finds no error.  Raises Failure."""
    from s6tls.accessrules.tree import DIRECTORY, DirectoryBackend
    from s6tls.audit.lint.findings import Severity
    from s6tls.audit.lint.run import examine

    try:
        with closing(DirectoryBackend(os.open(directory, DIRECTORY))) as tree:
            contents, problems = examine(directory, tree, least=Severity.ERROR)
    except RuleSetError as error:
        raise Failure(ExitCode.SYSTEM, str(error)) from error
    except OSError as error:
        raise Failure(ExitCode.SYSTEM, f"unable to read {shown(directory)}: {error.strerror or error}") from error
    for problem in problems:
        rule = "" if problem.rule is None else f"{shown(problem.rule)}: "
        log(SYNOPSIS.program, "error", f"{rule}{problem.message} ({problem.remedy})")
    if problems:
        raise Failure(ExitCode.USAGE, f"rule set has {len(problems)} problem{'s' if len(problems) > 1 else ''}")
    return contents.rules.items()


def _warn(message: str) -> None:
    log(SYNOPSIS.program, "warning", message)
