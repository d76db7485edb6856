"""s6-accessrules explain: who gets in, and why."""

from __future__ import annotations

from s6tls.accessrules.errors import AddressError
from s6tls.audit import answer
from s6tls.audit.explain import Explainer, Explanation
from s6tls.cli.accessrules.common import JSON, reading, say, say_json
from s6tls.cli.options import Option, Synopsis, UsageError

SYNOPSIS = Synopsis(
    "s6-accessrules explain",
    (
        Option("", ("name",), "HOST", "the client's host name, for rules by name"),
        JSON,
    ),
    "RULES ADDRESS",
)


def body(argv: list[bytes]) -> int:
    """Explain what these words ask about."""
    options, words = SYNOPSIS.parse_mixed(argv)
    chosen = dict(options)
    if len(words) != 2:
        raise UsageError
    rules, address = words
    with reading(rules):
        explainer = Explainer(rules)
        try:
            explanation = explainer.explain(address, chosen.get("name"))
        except AddressError as error:
            raise UsageError(str(error)) from error
    if "json" in chosen:
        say_json(explanation.json())
    else:
        _tell(explanation)
    return 0


def _tell(explanation: Explanation) -> None:
    for key in explanation.probes:
        say(f"probe {answer.text(key)}")
    decision = explanation.decision
    rule = explanation.rule
    say(
        f"{explanation.address}: {answer.verdict(rule)}"
        + (f" by {answer.text(decision.rule)}" if decision.rule else "")
    )
    for name, value in decision.env:
        say(f"  unsets {answer.text(name)}" if value is None else f"  sets {answer.text(name)}={answer.text(value)}")
    if decision.exec:
        say(f"  runs {answer.text(decision.exec)}")
    if explanation.needs_name:
        say("  a host name is needed: no rule by address decides, and there are rules by name")
