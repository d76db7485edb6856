"""s6-accessrules expect: does a rule set decide as is expected of it?"""

from __future__ import annotations

from s6tls.accessrules.text import shown
from s6tls.audit.policy.expect import violations
from s6tls.audit.policy.expectations import LARGEST, BadExpectations, Expectation, parse
from s6tls.cli.accessrules.common import JSON, count, load, progress, reading, say, say_json
from s6tls.cli.frame.options import Synopsis
from s6tls.cli.frame.program import Failure
from s6tls.posix.exitcodes import ExitCode

SYNOPSIS = Synopsis("s6-accessrules expect", (JSON,), "RULES EXPECTATIONS")


def body(argv: list[bytes]) -> int:
    """Judge what these words name."""
    given = SYNOPSIS.read_mixed(argv)
    rules, file = given.words
    expectations = expectations_in(file)
    with progress() as tell:
        failed = list(violations(load(rules, tell), expectations, progress=tell))
    failing = len({violation.expectation for violation in failed})
    if given.flag("json"):
        say_json({"held": len(expectations) - failing, "failed": [violation.json() for violation in failed]})
    else:
        for violation in failed:
            headline, *details = violation.lines()
            say(headline)
            for detail in details:
                say(f"  {detail}")
        say(tally(failing, len(expectations)))
    return ExitCode.FINDINGS if failed else 0


def expectations_in(file: bytes) -> list[Expectation]:
    """Read a file of expectations.  Raises Failure."""
    with reading(file), open(file, "rb") as source:
        text = source.read(LARGEST + 1)
    try:
        return parse(text)
    except BadExpectations as error:
        raise Failure(ExitCode.USAGE, f"unable to use {shown(file)}: {error}") from error


def tally(failing: int, number: int) -> str:
    """Say how many of a number of expectations fail."""
    if failing:
        return f"{failing:,} of {count(number, 'expectation')} {'fails' if failing == 1 else 'fail'}"
    return f"all {count(number, 'expectation')} hold" if number > 1 else "1 expectation holds"
