"""What must hold before rules take the place of others: expectations, and that a list has not shrunk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import RuleSetError
from s6tls.accessrules.text import shown
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.policy.expect import violations
from s6tls.audit.policy.shrink import losses
from s6tls.cli.accessrules.common import rules_at
from s6tls.cli.accessrules.expect import expectations_in, tally
from s6tls.cli.frame.options import Option
from s6tls.cli.frame.program import Failure
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.cli.frame.options import Given

EXPECT = Option(
    "",
    ("expect",),
    "FILE",
    "write nothing unless these [expectations](s6-accessrules-expect.md) hold",
)
SHRINK = (
    Option(
        "",
        ("shrink-limit",),
        "PERCENT",
        "how much of the addresses in OUT the rules in its place may lack. Default: 50",
    ),
    Option("", ("force",), None, "let rules take the place of OUT even if they lack more"),
)


def require_expected(program: str, given: Given, loaded: LoadedRules) -> None:
    """Judge rules by `EXPECT`.  Raises Failure if they decide otherwise."""
    file = given.value("expect")
    if file is None:
        return
    expectations = expectations_in(file)
    failed = list(violations(loaded, expectations))
    for violation in failed:
        for line in violation.lines():
            log(program, "error", line)
    if failed:
        failing = len({violation.expectation for violation in failed})
        raise Failure(ExitCode.FINDINGS, f"nothing is written: {tally(failing, len(expectations))}")


def refuse_to_shrink(given: Given, loaded: LoadedRules, out: bytes) -> None:
    """Compare rules with those in whose place they are to stand.  Raises Failure if they lack too much of them."""
    percent = given.number("shrink-limit", 50, 0, 100)
    if given.flag("force") or not os.path.isfile(out) or not os.path.getsize(out):
        return
    try:
        with rules_at(out) as place:
            old = LoadedRules.load(place)
    except (Failure, RuleSetError) as error:
        message = f"unable to compare the rules with those of {shown(out)} ({error}): --force replaces it"
        raise Failure(ExitCode.SYSTEM, message) from None
    for loss in losses(old, loaded, percent):
        message = f"unable to replace {shown(out)}: {loss}: --force replaces it, and --shrink-limit lets more go"
        raise Failure(ExitCode.SYSTEM, message)
