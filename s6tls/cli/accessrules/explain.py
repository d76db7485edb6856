"""s6-accessrules explain: who gets in, and why."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.keys import address_text, client_address
from s6tls.accessrules.text import decoded
from s6tls.audit.core import wording
from s6tls.audit.questions.explain import Explainer, Explanation
from s6tls.cli.accessrules import logs
from s6tls.cli.accessrules.common import JSON, json_line, reading, rules_at, say, say_json
from s6tls.cli.accessrules.logs import OPTIONS, refuse_without_log
from s6tls.cli.frame.options import Given, Option, Synopsis, UsageError

SYNOPSIS = Synopsis(
    "s6-accessrules explain",
    (
        Option("", ("name",), "HOST", "the host name of a lone ADDRESS, for rules by name"),
        Option("", ("probes",), None, "list the keys that were looked up, too; JSON always has them"),
        Option("", ("log",), "FILE", "explain the client of each line of a log, in one line; `-` is stdin"),
        *OPTIONS,
        replace(JSON, help="answer in JSON, one line of it for each client"),
    ),
    "RULES [ADDRESS]...",
)


def body(argv: list[bytes]) -> int:
    """Explain what these words ask about."""
    given = SYNOPSIS.read_mixed(argv)
    (rules,), addresses, log = given.words, given.rest, given.value("log")
    if (log is None) != bool(addresses):
        raise UsageError("ADDRESS is missing, or --log" if log is None else "ADDRESS and --log exclude each other")
    if given.flag("name") and len(addresses) != 1:
        raise UsageError("--name is for one ADDRESS")
    if log is not None:
        if given.flag("probes"):
            raise UsageError("--probes is for addresses, not for a log")
        _explain_log(rules, log, given)
    else:
        refuse_without_log(given)
        for address in addresses:
            _refuse_other_than_address(address)
        _explain_addresses(rules, addresses, given)
    return 0


def _refuse_other_than_address(word: bytes) -> None:
    try:
        client_address(word)
    except AddressError as error:
        raise UsageError(str(error)) from error


def _explain_addresses(rules: bytes, addresses: list[bytes], given: Given) -> None:
    with rules_at(rules) as place:
        explainer = Explainer(place)
        explanations = [explainer.explain(address, given.value("name")) for address in addresses]
    for explanation in explanations:
        if given.flag("json"):
            say_json(explanation.json())
        else:
            _tell(explanation, given.flag("probes"))


def _explain_log(rules: bytes, log: bytes, given: Given) -> None:
    with rules_at(rules) as place:
        explainer = Explainer(place)

    @lru_cache(1 << 14)
    def line(packed: bytes) -> str:
        with reading(rules):
            explanation = explainer.explain(address_text(packed))
        return json_line(explanation.json()) if given.flag("json") else _in_one_line(explanation)

    for packed in logs.addresses(SYNOPSIS.program, log, given):
        say(line(packed))


def _in_one_line(explanation: Explanation) -> str:
    decided = f"{explanation.address}: {wording.summary(explanation.rule, explanation.decision.rule)}"
    return f"{decided} (a host name is needed)" if explanation.needs_name else decided


def _tell(explanation: Explanation, with_probes: bool) -> None:
    decision = explanation.decision
    say(f"{explanation.address}: {wording.brief(explanation.rule, decision.rule)}")
    for name, value in decision.env:
        say(f"  unsets {decoded(name)}" if value is None else f"  sets {decoded(name)}={decoded(value)}")
    if decision.exec:
        say(f"  runs {decoded(decision.exec)}")
    if explanation.needs_name:
        say("  a host name is needed: no rule by address decides, and there are rules by name")
    for key in explanation.probes if with_probes else ():
        say(f"  probe {decoded(key)}")
