"""What is wrong with a rule set, or odd about it.

Each kind of finding has a module: `lint_names`, `lint_reach` and `lint_effects` look at the rules in memory,
`lint_tree` and `lint_cdb` at what only one of the forms shows, and `lint_execs` and `lint_keypairs` at the
programs and files that rules name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.audit import lint_cdb, lint_effects, lint_names, lint_reach, lint_tree
from s6tls.audit.contents import Contents
from s6tls.audit.findings import Finding, Severity
from s6tls.audit.networks import Family
from s6tls.audit.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.accessrules.errors import RuleSetError


def lint(
    path: str | bytes,
    *,
    least: Severity = Severity.NOTE,
    days: int | None = None,
    contents: Contents | None = None,
    progress: Progress = silent,
) -> list[Finding]:
    """Return the findings about a rule set, in either form, that are at least as bad as `least`; the worst first.

    With `days` also the files and programs that rules name are looked at, where this process finds them, and
    certificates that expire within so many days are found.  `contents` are those of the set if all of it has been read
    already.  Raises OSError or RuleSetError if the set cannot be read
    as a whole.
    """
    found = [finding for finding in _findings(path, least, days, contents, progress) if finding.severity >= least]
    return sorted(found, key=lambda finding: -finding.severity)


def of_contents(contents: Contents, least: Severity = Severity.NOTE, progress: Progress = silent) -> Iterator[Finding]:
    """Yield the findings about rules in memory; those milder than `least` need not be among them."""
    spaces = {} if least == Severity.ERROR else {family: contents.space(family, progress) for family in Family}
    can_match = {key for space in spaces.values() for key in space.keys}
    yield from lint_names.findings(contents, can_match, progress)
    yield from lint_effects.findings(contents)
    if spaces:
        yield from lint_reach.findings(contents, spaces)


def _findings(
    path: str | bytes, least: Severity, days: int | None, contents: Contents | None, progress: Progress
) -> Iterator[Finding]:
    faults: dict[bytes, RuleSetError] = {}

    def fault(key: bytes, error: RuleSetError) -> None:
        faults.setdefault(key, error)

    contents = contents or Contents.load(path, progress=progress, fault=fault)
    for key, error in faults.items():
        yield _fault(key, error)
    if not contents.rules and not faults:
        message = "has no rules: every client is denied"
        yield Finding("no-rules", Severity.WARNING, None, message, "add rules, or name the directory that has families")
    if contents.is_tree:
        yield from lint_tree.findings(path, faults, progress)
    elif least < Severity.ERROR:
        yield from lint_cdb.findings(path)
    yield from of_contents(contents, least, progress)
    if days is not None:
        from s6tls.audit import lint_execs, lint_keypairs

        yield from lint_execs.findings(contents, progress)
        yield from lint_keypairs.findings(contents, days, progress)


def _fault(key: bytes, error: RuleSetError) -> Finding:
    """Make a finding of what reading has complained of: a rule, or a file where a family belongs."""
    rule = key if b"/" in key else None
    remedy = "see to its owner, its permissions and its kind" if rule else "remove it, or begin its name with a dot"
    return Finding("unreadable", Severity.ERROR, rule, f"{error}: clients that come to it are refused", remedy)
