"""s6-accessrules explain: who gets in, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.keys import address_text
from s6tls.accessrules.text import decoded
from s6tls.audit.core import wording
from s6tls.audit.questions.explain import Explainer, Explanation
from s6tls.cli.accessrules.common import JSON, reading, say, say_json
from s6tls.cli.accessrules.logs import FIELD, FORMAT, addresses
from s6tls.cli.frame.options import Option, Synopsis, UsageError

SYNOPSIS = Synopsis(
    "s6-accessrules explain",
    (
        Option("", ("name",), "HOST", "the client's host name, for rules by name"),
        Option("", ("log",), "FILE", "explain the client of each line of a log, in one line; - is stdin"),
        FORMAT,
        FIELD,
        JSON,
    ),
    "RULES [ ADDRESS ]",
)


def body(argv: list[bytes]) -> int:
    """Explain what these words ask about."""
    options, words = SYNOPSIS.parse_mixed(argv)
    chosen = dict(options)
    if len(words) != (1 if "log" in chosen else 2):
        raise UsageError
    if "log" in chosen:
        if "name" in chosen:
            raise UsageError("--name is for one ADDRESS, not for a log")
        _explain_log(words[0], chosen)
    else:
        if "format" in chosen or "field" in chosen:
            raise UsageError("--format and --field are for --log")
        _explain_address(words[0], words[1], chosen)
    return 0


def _explain_address(rules: bytes, address: bytes, chosen: Mapping[str, bytes]) -> None:
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


def _explain_log(rules: bytes, chosen: Mapping[str, bytes]) -> None:
    with reading(rules):
        explainer = Explainer(rules)

    @lru_cache(1 << 14)
    def line(packed: bytes) -> str:
        with reading(rules):
            explanation = explainer.explain(address_text(packed))
        return json.dumps(explanation.json()) if "json" in chosen else _in_one_line(explanation)

    for packed in addresses(SYNOPSIS.program, chosen["log"], chosen):
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
