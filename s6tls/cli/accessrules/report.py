"""s6-accessrules report: one page with all about a rule set."""

from __future__ import annotations

from s6tls.accessrules.text import decoded
from s6tls.audit.report.report import report
from s6tls.cli.accessrules.common import JSON, count, progress, refuse_overwriting, rules_at, say, say_json, write_whole
from s6tls.cli.frame.options import Synopsis

SYNOPSIS = Synopsis("s6-accessrules report", (JSON,), "RULES OUT")


def body(argv: list[bytes]) -> int:
    """Write the report that these words ask for."""
    given = SYNOPSIS.read_mixed(argv)
    rules, out = given.words
    refuse_overwriting(rules, out)
    with rules_at(rules) as place, progress() as tell:
        made = report(place, name=rules, progress=tell)
    write_whole(out, made.html.encode(), made.mode)
    if given.flag("json"):
        say_json({"out": decoded(out), "rules": made.rules, "findings": len(made.findings)})
    else:
        say(f"{decoded(out)}: {count(made.rules, 'rule')}, {count(len(made.findings), 'finding')}")
    return 0
