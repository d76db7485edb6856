"""s6-accessrules lint: what is wrong or odd."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded, shown
from s6tls.audit.lint.findings import Severity
from s6tls.audit.lint.run import lint
from s6tls.cli.accessrules.common import FINDINGS, JSON, Table, count, progress, reading, say, say_json
from s6tls.cli.frame.options import Option, Synopsis, UsageError, number

if TYPE_CHECKING:
    from s6tls.audit.lint.findings import Finding

_DAYS = 30
SYNOPSIS = Synopsis(
    "s6-accessrules lint",
    (
        Option("", ("severity",), "error|warning|note", "report nothing milder than this (default: note)"),
        Option("", ("files",), None, "look also at the keys, certificates and programs that rules name"),
        Option("", ("days",), "N", f"with --files: report certificates that expire within N days (default: {_DAYS})"),
        JSON,
    ),
    "RULES",
)


def body(argv: list[bytes]) -> int:
    """Look at the rule set that these words name."""
    options, words = SYNOPSIS.parse_mixed(argv)
    chosen = dict(options)
    if len(words) != 1:
        raise UsageError
    least = _severity(chosen.get("severity", b"note"))
    days = number("--days", chosen["days"], 0, 36500) if "days" in chosen else _DAYS
    if "days" in chosen and "files" not in chosen:
        raise UsageError("--days goes with --files")
    with reading(words[0]), progress() as tell:
        findings = lint(words[0], least=least, days=days if "files" in chosen else None, progress=tell)
    if "json" in chosen:
        say_json([finding.json() for finding in findings])
    else:
        _tell(findings)
    return FINDINGS if findings else 0


def _severity(word: bytes) -> Severity:
    for severity in Severity:
        if word == severity.word.encode():
            return severity
    raise UsageError(f"invalid value for --severity: {shown(word)} (expected error, warning, note)")


def _tell(findings: list[Finding]) -> None:
    table = Table("severity", "finding", "rule", "what is so", "remedy")
    table.add(findings, _row)
    table.show()
    if findings:
        say("")
    counts = Counter(finding.severity for finding in findings)
    say(", ".join(count(counts[severity], severity.word) for severity in reversed(Severity)))


def _row(finding: Finding) -> tuple[str | None, ...]:
    rule = None if finding.rule is None else decoded(finding.rule)
    return finding.severity.word, finding.code, rule, finding.message, finding.remedy
