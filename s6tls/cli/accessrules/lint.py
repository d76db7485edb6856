"""s6-accessrules lint: what is wrong or odd."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded
from s6tls.audit.lint.findings import Severity
from s6tls.audit.lint.run import lint
from s6tls.cli.accessrules.common import JSON, Table, count, progress, rules_at, say, say_json
from s6tls.cli.frame.options import Option, Synopsis, UsageError
from s6tls.posix.exitcodes import ExitCode

if TYPE_CHECKING:
    from s6tls.audit.lint.findings import Finding

_DAYS = 30
_COLOURS = {Severity.ERROR.word: "bold red", Severity.WARNING.word: "yellow", Severity.NOTE.word: "cyan"}
SYNOPSIS = Synopsis(
    "s6-accessrules lint",
    (
        Option(
            "",
            ("severity",),
            "error|warning|note",
            "report nothing milder than this. Default: `note`, which is everything",
        ),
        Option("", ("files",), None, "look also at the keys, certificates and programs that rules name"),
        Option(
            "",
            ("days",),
            "N",
            f"with `--files`: report certificates and revocation lists that expire within N days. Default: {_DAYS}",
        ),
        JSON,
    ),
    "RULES",
)


def body(argv: list[bytes]) -> int:
    """Look at the rule set that these words name."""
    given = SYNOPSIS.read_mixed(argv)
    (rules,) = given.words
    least = Severity[given.choice("severity", "note").upper()]
    days = given.number("days", _DAYS, 0, 36500)
    if given.flag("days") and not given.flag("files"):
        raise UsageError("--days goes with --files")
    with rules_at(rules) as place, progress() as tell:
        findings = lint(place, name=rules, least=least, days=days if given.flag("files") else None, progress=tell)
    if given.flag("json"):
        say_json({"findings": [finding.json() for finding in findings]})
    else:
        _tell(findings)
    return ExitCode.FINDINGS if findings else 0


def _tell(findings: list[Finding]) -> None:
    table = Table("severity", "finding", "rule", "message", "remedy", colours=_COLOURS)
    table.add(findings, _row)
    table.show()
    if findings:
        say("")
    counts = Counter(finding.severity for finding in findings)
    say(", ".join(count(counts[severity], severity.word) for severity in reversed(Severity)))


def _row(finding: Finding) -> tuple[str | None, ...]:
    rule = None if finding.rule is None else decoded(finding.rule)
    return finding.severity.word, finding.code, rule, finding.message, finding.remedy
