"""What is wrong with a rule set, or odd about it.

Each kind of finding has a module: `lint_names`, `lint_reach` and `lint_effects` look at the rules in memory,
`lint_tree` and `lint_cdb` at what only one of the forms shows, and `lint_execs` and `lint_keypairs` at the
programs and files that rules name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.errors import refuse
from s6tls.audit import lint_cdb, lint_effects, lint_names, lint_reach, lint_tree
from s6tls.audit.contents import Contents, opened
from s6tls.audit.findings import Finding, Severity
from s6tls.audit.networks import Family
from s6tls.audit.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.accessrules.errors import RuleSetError
    from s6tls.accessrules.ruleset import AnyBackend

__all__ = ["lint"]


def lint(
    path: str | bytes, *, least: Severity = Severity.NOTE, days: int | None = None, progress: Progress = silent
) -> list[Finding]:
    """Return the findings about a rule set, in either form, that are at least as bad as `least`; the worst first.

    With `days` also the files and programs that rules name are looked at, where this process finds them, and
    certificates that expire within so many days are found.  Raises OSError or RuleSetError if the set cannot be read
    as a whole.
    """
    with opened(path) as backend:
        return examine(path, backend, least=least, days=days, progress=progress)[1]


def examine(
    path: str | bytes,
    backend: AnyBackend,
    *,
    least: Severity = Severity.NOTE,
    days: int | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> tuple[Contents, list[Finding]]:
    """Read an open rule set, which messages call `path`, once; return its rules, and the findings as `lint` does.

    A rule that cannot be read is a finding, and is left out; with `strict` it raises.
    """
    faults: dict[bytes, RuleSetError] = {}
    contents = Contents.read(backend, progress=progress, fault=refuse if strict else faults.setdefault)
    found = [*map(_fault, faults, faults.values())]
    if not contents.rules and not faults:
        message = "has no rules: every client is denied"
        found.append(
            Finding("no-rules", Severity.WARNING, None, message, "add rules, or name the directory that has families")
        )
    if contents.is_tree:
        found += lint_tree.findings(path, backend.descriptor, faults, progress)
    elif least < Severity.ERROR:
        found += lint_cdb.findings(backend.descriptor)
    found += of_contents(contents, least, progress)
    if days is not None:
        from s6tls.audit import lint_execs, lint_keypairs

        found += lint_execs.findings(contents, progress)
        found += lint_keypairs.findings(contents, days, progress)
    heavy = [finding for finding in found if finding.severity >= least]
    return contents, sorted(heavy, key=lambda finding: -finding.severity)


def of_contents(contents: Contents, least: Severity = Severity.NOTE, progress: Progress = silent) -> Iterator[Finding]:
    """Yield the findings about rules in memory; those milder than `least` need not be among them."""
    spaces = {} if least == Severity.ERROR else {family: contents.space(family, progress) for family in Family}
    can_match = {key for space in spaces.values() for key in space.keys}
    yield from lint_names.findings(contents, can_match, progress)
    yield from lint_effects.findings(contents)
    if spaces:
        yield from lint_reach.findings(contents, spaces)


def _fault(key: bytes, error: RuleSetError) -> Finding:
    """Make a finding of what reading has complained of: a rule, or a file where a family belongs."""
    rule = key if b"/" in key else None
    remedy = "see to its owner, its permissions and its kind" if rule else "remove it, or begin its name with a dot"
    return Finding("unreadable", Severity.ERROR, rule, f"{error}: clients that come to it are refused", remedy)
