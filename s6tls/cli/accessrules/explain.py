"""s6-accessrules explain: who gets in, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.keys import address_text
from s6tls.accessrules.text import decoded
from s6tls.audit.core import wording
from s6tls.audit.questions.explain import Explainer, Explanation
from s6tls.cli.accessrules import logs
from s6tls.cli.accessrules.common import JSON, reading, rules_at, say, say_json
from s6tls.cli.accessrules.logs import OPTIONS, refuse_without_log
from s6tls.cli.frame.options import Given, Option, Synopsis, UsageError

SYNOPSIS = Synopsis(
    "s6-accessrules explain",
    (
        Option("", ("name",), "HOST", "the client's host name, for rules by name"),
        Option("", ("log",), "FILE", "explain the client of each line of a log, in one line; `-` is stdin"),
        *OPTIONS,
        replace(JSON, help="answer in JSON; with `--log`, one line of it for each client"),
    ),
    "RULES [ ADDRESS ]",
)


def body(argv: list[bytes]) -> int:
    """Explain what these words ask about."""
    given = SYNOPSIS.read_mixed(argv)
    rules, *addresses = given.words
    log = given.value("log")
    if (log is None) != bool(addresses):
        raise UsageError
    if log is not None:
        if given.flag("name"):
            raise UsageError("--name is for one ADDRESS, not for a log")
        _explain_log(rules, log, given)
    else:
        refuse_without_log(given)
        _explain_address(rules, addresses[0], given)
    return 0


def _explain_address(rules: bytes, address: bytes, given: Given) -> None:
    with rules_at(rules) as place:
        explainer = Explainer(place)
        try:
            explanation = explainer.explain(address, given.value("name"))
        except AddressError as error:
            raise UsageError(str(error)) from error
    if given.flag("json"):
        say_json(explanation.json())
    else:
        _tell(explanation)


def _explain_log(rules: bytes, log: bytes, given: Given) -> None:
    with rules_at(rules) as place:
        explainer = Explainer(place)

    @lru_cache(1 << 14)
    def line(packed: bytes) -> str:
        with reading(rules):
            explanation = explainer.explain(address_text(packed))
        return json.dumps(explanation.json()) if given.flag("json") else _in_one_line(explanation)

    for packed in logs.addresses(SYNOPSIS.program, log, given):
        say(line(packed))


def _in_one_line(explanation: Explanation) -> str:
    decided = f"{explanation.address}: {wording.summary(explanation.rule, explanation.decision.rule)}"
    return f"{decided} (a host name is needed)" if explanation.needs_name else decided


def _tell(explanation: Explanation) -> None:
    for key in explanation.probes:
        say(f"probe {decoded(key)}")
    decision = explanation.decision
    say(f"{explanation.address}: {wording.brief(explanation.rule, decision.rule)}")
    for name, value in decision.env:
        say(f"  unsets {decoded(name)}" if value is None else f"  sets {decoded(name)}={decoded(value)}")
    if decision.exec:
        say(f"  runs {decoded(decision.exec)}")
    if explanation.needs_name:
        say("  a host name is needed: no rule by address decides, and there are rules by name")
