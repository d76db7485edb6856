"""The parts of a report that need no script, as HTML: summary, findings, coverage and the frame of the map."""

from __future__ import annotations

from collections import Counter
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded, printable
from s6tls.audit.core.networks import Family, family_name
from s6tls.audit.lint.findings import Severity
from s6tls.audit.questions.coverage import share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.lint.findings import Finding
    from s6tls.audit.questions.coverage import Coverage

MOST_OF_A_KIND = 100
"""So many findings with one code are written out; of more the page says how many."""

_IN_SIGHT = 3

_FAMILIES = {
    **{family.value.encode(): family.label for family in Family},
    b"reversedns": "host names",
    b"uid": "users",
    b"gid": "groups",
}


def summary(loaded: LoadedRules, findings: Sequence[Finding]) -> str:
    """Return what the set is, and how many rules and findings it has."""
    counts = Counter((family_name(key), rule.allow) for key, rule in loaded.rules.items())
    names = sorted({family for family, _ in counts}, key=lambda name: (name not in _FAMILIES, name))
    found = Counter(finding.severity for finding in findings)
    facts = {
        "Form": "directory tree" if loaded.is_tree else "cdb file",
        "Rules": f"{len(loaded.rules):,}",
        **{f"{severity.word.capitalize()}s": f"{found[severity]:,}" for severity in reversed(Severity)},
    }
    rows = [
        (_FAMILIES.get(name, printable(decoded(name))), counts[name, True] + counts[name, False], counts[name, True])
        for name in names
    ]
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{number(rules)}{number(allow)}{number(rules - allow)}</tr>'
        for name, rules, allow in rows
    )
    table = (
        '<table><caption>Rules by family</caption><thead><tr><th scope="col">Family</th>'
        '<th scope="col" class="number">Rules</th><th scope="col" class="number">Allow</th>'
        f'<th scope="col" class="number">Deny</th></tr></thead><tbody>{body}</tbody></table>'
    )
    return f'<dl class="facts">{cells}</dl>{table if rows else "<p>There are no rules.</p>"}'


def findings(found: Sequence[Finding]) -> str:
    """Return the findings by severity and code, the worst first; of many with one code, most are folded away."""
    if not found:
        return "<p>Lint finds nothing to report.</p>"
    ordered = sorted(found, key=lambda finding: (-finding.severity, finding.code))
    kinds = groupby(ordered, key=lambda finding: (finding.severity, finding.code))
    return "\n".join(_kind(severity, code, list(items)) for (severity, code), items in kinds)


def _kind(severity: Severity, code: str, items: list[Finding]) -> str:
    listed = [_finding(item) for item in items[:MOST_OF_A_KIND]]
    parts = [
        f'<h3><span class="severity {severity.word}">{severity.word}</span> {escape(code)}',
        f'<span class="hint">({len(items):,})</span></h3>',
        f'<ul class="finding">{"".join(listed[:_IN_SIGHT])}</ul>',
    ]
    if len(items) > _IN_SIGHT:
        rest = f'<ul class="finding">{"".join(listed[_IN_SIGHT:])}</ul>'
        left = len(items) - len(listed)
        if left:
            rest += (
                f"<p>{left:,} more of this kind are not in this page: "
                "<code>s6-accessrules lint --json</code> lists all.</p>"
            )
        parts.append(f"<details><summary>{len(items) - _IN_SIGHT:,} more of this kind</summary>{rest}</details>")
    return "\n".join(parts)


def _finding(finding: Finding) -> str:
    rule = "" if finding.rule is None else f"<p>{rule_link(finding.rule)}</p>"
    message, remedy = escape(printable(finding.message)), escape(printable(finding.remedy))
    return (
        f'<li>{rule}<p>{message}.</p><p class="remedy">Remedy: {remedy}{"" if remedy.endswith("?") else "."}</p></li>'
    )


def coverage(covered: Sequence[Coverage]) -> str:
    """Return how many addresses of each family are allowed, denied and undecided."""
    return "\n".join(_coverage(found) for found in covered)


def _coverage(found: Coverage) -> str:
    counts = {"allow": found.allow, "deny": found.deny, "undecided": found.undecided}
    size = found.family.size
    title = found.family.label
    bar, rows, left = "", "", 0.0
    for word, count in counts.items():
        width = 100 * count / size
        bar += f'<rect class="{word}-bar" x="{left:.4f}" width="{width:.4f}" height="10"/>'
        left += width
        rows += (
            '<tr><th scope="row"><svg class="bar key" viewBox="0 0 10 10" aria-hidden="true">'
            f'<rect class="{word}-bar" width="10" height="10"/></svg>{word}</th>'
            f'{number(count)}<td class="number share">{escape(share(count, size))}</td></tr>'
        )
    said = ", ".join(f"{word} {share(count, size)}" for word, count in counts.items())
    idle = sum(not count for count in found.rules.values())
    note = f"<p>Rules that decide no address themselves: {idle:,} of {len(found.rules):,}.</p>" if idle else ""
    return (
        f"<h3>{title}</h3>"
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{escape(said)}">'
        f"{bar}</svg>"
        f'<table aria-label="{title}"><thead><tr><th scope="col">Decision</th>'
        '<th scope="col" class="number">Addresses</th><th scope="col" class="number">Share</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{note}"
    )


def map_of(svg: str, label: str = "Map of the address space") -> str:
    """Return a map in a frame that scrolls where there is little room."""
    return f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">{svg}</div>'


def section(name: str, title: str, body: str) -> str:
    """Return a section of the page, to which ``#name`` leads."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-heading">\n<h2 id="{name}-heading">{title}</h2>\n'
        f"{body}\n</section>"
    )


def rule_link(key: bytes) -> str:
    """Return the key of a rule, which leads to its row in the table."""
    text = decoded(key)
    return f'<a href="#rules" data-rule="{escape(text)}"><code>{escape(printable(text))}</code></a>'


def number(count: int | None, label: str = "") -> str:
    """Return a cell whose number may be broken between its groups of digits; `label` is shown on narrow screens."""
    shown = "-" if count is None else f"{count:,}".replace(",", ",<wbr>")
    data = f' data-label="{label}"' if label else ""
    return f'<td class="number"{data}>{shown}</td>'
