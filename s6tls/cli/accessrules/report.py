"""s6-accessrules report: one page with all about a rule set."""

from __future__ import annotations

from s6tls.accessrules.text import decoded
from s6tls.audit.report.report import report
from s6tls.cli.accessrules.common import JSON, count, progress, reading, say, say_json, spare, write_whole
from s6tls.cli.frame.options import Synopsis, UsageError

SYNOPSIS = Synopsis("s6-accessrules report", (JSON,), "RULES OUT")


def body(argv: list[bytes]) -> int:
    """Write the report that these words ask for."""
    options, words = SYNOPSIS.parse_mixed(argv)
    if len(words) != 2:
        raise UsageError
    rules, out = words
    spare(rules, out)
    with reading(rules), progress() as tell:
        made = report(rules, progress=tell)
    write_whole(out, made.html.encode(), made.mode)
    if "json" in dict(options):
        say_json({"out": decoded(out), "rules": made.rules, "findings": len(made.findings)})
    else:
        say(f"{decoded(out)}: {count(made.rules, 'rule')}, {count(len(made.findings), 'finding')}")
    return 0
