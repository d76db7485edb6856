"""What is wrong with a rule set, or odd about it.

Each kind of finding has a module: `names`, `reach` and `effects` look at the rules in memory, `tree` and `cdb` at what
only one of the forms shows, and `execs` and `keypairs` at the programs and files that rules name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.cdb import CdbBackend
from s6tls.accessrules.errors import RuleSetError, refuse
from s6tls.audit.core.loaded import LoadedRules, opened
from s6tls.audit.core.networks import Family, key_order
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.lint import cdb, effects, names, reach, tree
from s6tls.audit.lint.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.accessrules.ruleset import AnyBackend


def lint(
    path: str | bytes,
    *,
    name: str | bytes | None = None,
    least: Severity = Severity.NOTE,
    days: int | None = None,
    progress: Progress = silent,
) -> list[Finding]:
    """Return the findings about a rule set, in either form, that are at least as bad as `least`; the worst first.

    Messages call it `name`, or by its path.
    With `days` also the files and programs that rules name are looked at, where this process finds them, and
    certificates that expire within so many days are found.  Raises OSError or RuleSetError if the set cannot be read
    as a whole.
    """
    with opened(path) as backend:
        return examine(name or path, backend, least=least, days=days, progress=progress)[1]


def examine(
    path: str | bytes,
    backend: AnyBackend,
    *,
    least: Severity = Severity.NOTE,
    days: int | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> tuple[LoadedRules, list[Finding]]:
    """Read an open rule set, which messages call `path`, once; return its rules, and the findings as `lint` does.

    A rule that cannot be read is a finding, and is left out; with `strict` it raises.
    """
    if isinstance(backend, CdbBackend) and _is_of_tcprules(backend):
        return LoadedRules.of((), mode=backend.mode), [cdb.OF_TCPRULES]
    faults: dict[bytes, RuleSetError] = {}
    loaded = LoadedRules.read(backend, progress=progress, fault=refuse if strict else faults.setdefault)
    found = [*map(_fault, faults, faults.values())]
    if not loaded.rules and not faults:
        message = "has no rules: every client is denied"
        found.append(
            Finding("no-rules", Severity.WARNING, message, "add rules, or name the directory that has families")
        )
    if loaded.is_tree:
        found += tree.findings(path, backend.descriptor, faults, progress)
    elif least < Severity.ERROR:
        found += cdb.findings(backend.descriptor)
    found += of_loaded(loaded, least, progress)
    if days is not None:
        from s6tls.audit.lint import execs, keypairs

        found += execs.findings(loaded, progress)
        found += keypairs.findings(loaded, days, progress)
    heavy = [finding for finding in found if finding.severity >= least]
    return loaded, _ordered(heavy)


def of_loaded(loaded: LoadedRules, least: Severity = Severity.NOTE, progress: Progress = silent) -> Iterator[Finding]:
    """Yield the findings about rules in memory; those milder than `least` need not be among them."""
    partitions = {} if least == Severity.ERROR else {family: loaded.partition(family, progress) for family in Family}
    can_match = {key for partition in partitions.values() for key in partition.keys}
    yield from names.findings(loaded, can_match, progress)
    yield from effects.findings(loaded)
    if partitions:
        yield from reach.findings(loaded, partitions)


def _is_of_tcprules(backend: CdbBackend) -> bool:
    try:
        return cdb.is_of_tcprules(backend.descriptor)
    except RuleSetError:  # what reads all rules tells of it
        return False


def _ordered(findings: list[Finding]) -> list[Finding]:
    """Sort findings: the worst first, those of one kind together, and these in the order of their rules."""
    kinds = {code: number for number, code in enumerate(dict.fromkeys(finding.code for finding in findings))}
    return sorted(findings, key=lambda found: (-found.severity, kinds[found.code], key_order(found.rule or b"")))


def _fault(key: bytes, error: RuleSetError) -> Finding:
    """Make a finding of what reading has complained of: a rule, or a file where a family belongs."""
    rule = key if b"/" in key else None
    remedy = "see to its owner, its permissions and its kind" if rule else "remove it, or begin its name with a dot"
    return Finding("unreadable", Severity.ERROR, f"{error}: clients that come to it are refused", remedy, rule)
