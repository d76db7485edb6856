"""One page about a rule set: summary, findings, coverage, map, and in the browser a table and a box that explains.

The page needs no server and asks nobody: style, script, map and rules are in it, and its policy forbids all else.
What rules say is never trusted: it stands escaped where this module writes it, and the script makes texts of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

from s6tls.audit import answer, drawing, mapping, report_sections
from s6tls.audit.contents import opened
from s6tls.audit.coverage import coverage
from s6tls.audit.lint import examine
from s6tls.audit.networks import Family
from s6tls.audit.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.contents import Contents
    from s6tls.audit.coverage import Coverage
    from s6tls.audit.findings import Finding

__all__ = ["report", "Report"]


@dataclass(frozen=True)
class Report:
    """A page about a rule set.

    `name` is that of its file, without directories, and `mode` its permissions; `rules` says how many there are.
    """

    name: str
    mode: int
    rules: int
    findings: list[Finding]
    html: str


def report(path: str | bytes, *, progress: Progress = silent) -> Report:
    """Make a page about a rule set, in either form.

    The same rules under the same name make the same page.  Raises OSError or RuleSetError if a rule cannot be read.
    """
    name = report_sections.visible(answer.text(os.path.basename(os.path.abspath(os.fsencode(path)))))
    with opened(path) as backend:
        contents, findings = examine(path, backend, strict=True, progress=progress)
    covered = [coverage(contents, family, progress) for family in Family]
    style, script = _packaged("style.css"), _packaged("report.js")
    scene = mapping.scene(contents, title=name, progress=progress)
    html = Template(_packaged("page.html")).substitute(
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'",
        name=escape(name),
        style=style,
        script=script,
        summary=report_sections.summary(contents, findings),
        findings=report_sections.findings(findings),
        coverage=report_sections.coverage(covered),
        map=report_sections.map_of(drawing.svg(scene)),
        data=_embedded(contents, covered),
    )
    return Report(name, contents.mode, len(contents.rules), findings, html)


def _packaged(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text("utf-8")


def _digest(text: str) -> str:
    """Return the source of a policy that means a style or script of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(contents: Contents, covered: list[Coverage]) -> str:
    """Return the rules as JSON for the script, fit to stand in a page.

    ``keys``, ``outcome`` (an index into ``outcomes``) and ``decided`` (digits; null in families without addresses) are
    parallel: networks in their order, then what is left.  ``opaque`` are the indexes of keys that are not UTF-8.
    """
    keys: list[str] = []
    outcome: list[int] = []
    decided: list[str | None] = []
    opaque: list[int] = []
    outcomes: dict[Rule, int] = {}
    for key, rule, count in _ordered(contents, covered):
        if not _is_text(key):
            opaque.append(len(keys))
        keys.append(answer.text(key))
        outcome.append(outcomes.setdefault(rule, len(outcomes)))
        decided.append(None if count is None else str(count))
    data = {
        "outcomes": [_outcome(rule) for rule in outcomes],
        "keys": keys,
        "outcome": outcome,
        "decided": decided,
        "opaque": opaque,
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _ordered(contents: Contents, covered: list[Coverage]) -> Iterator[tuple[bytes, Rule, int | None]]:
    for found in covered:
        for key, count in found.rules.items():
            yield key, contents.rules[key], count
    by_address = {key for found in covered for key in found.rules}
    for key in sorted(contents.rules.keys() - by_address):
        yield key, contents.rules[key], None


def _outcome(rule: Rule) -> dict[str, Any]:
    decision = answer.decision(None, rule)
    return {name: decision[name] for name in ("verdict", "env", "exec")}


def _is_text(key: bytes) -> bool:
    try:
        key.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
