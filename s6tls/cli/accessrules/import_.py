"""s6-accessrules import: from the forms of other programs to rules."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded, shown
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.save import write
from s6tls.audit.formats import layers, text
from s6tls.audit.formats.registry import READERS
from s6tls.audit.lint.reach import lets_nobody_in
from s6tls.cli.accessrules.common import JSON, count, interruptible, refuse_overwriting, say_json, writing
from s6tls.cli.accessrules.formats import MOST_FAULTS, located, parsing, write_text
from s6tls.cli.accessrules.importing.guards import EXPECT, SHRINK, refuse_to_shrink, require_expected
from s6tls.cli.accessrules.importing.lists import OPTIONS, lists_of
from s6tls.cli.frame.options import Synopsis
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.core.wording import Json
    from s6tls.audit.formats.entries import Diagnostic, Entry, Parsed

SYNOPSIS = Synopsis(
    "s6-accessrules import",
    (*OPTIONS, "what is written", EXPECT, *SHRINK, JSON),
    "FORMAT IN [OUT]",
    tuple((name, reader.about) for name, reader in READERS.items()),
)


def body(argv: list[bytes]) -> int:
    """Read one form, or several, and write another."""
    given = SYNOPSIS.read_mixed(argv)
    as_json = given.flag("json")
    out = given.words[2] if len(given.words) > 2 else None
    lists = lists_of(given)
    paths = lists.paths
    for path in paths:
        if out is not None:
            refuse_overwriting(path, out)
    with parsing(SYNOPSIS.program, paths, as_json=as_json) as sources:
        parsed, skipped = lists.parsed(sources)
    if given.flag("drop-env"):
        parsed = replace(parsed, entries=[*layers.without_env(parsed.entries)])
    loaded = LoadedRules.of(parsed.rules, is_tree=out is not None and out.endswith(b"/"))
    _tell(parsed, skipped, paths, loaded)
    require_expected(SYNOPSIS.program, given, loaded)
    if out is not None:
        refuse_to_shrink(given, loaded, out)
    if out is not None or not as_json:
        _write(out, parsed, loaded, reduce(and_, [source.mode for source in sources]))
    if as_json:
        said: Json = {"rules": [_json(entry, paths) for entry in parsed.entries]}
        if out is not None:
            said = {"out": decoded(out), "rules": len(parsed.entries)}
        unreached, left_out = ([located(fault, paths) for fault in faults] for faults in (parsed.remarks, skipped))
        say_json({**said, "unreached": unreached, "skipped": left_out})
    return 0


def _tell(parsed: Parsed, skipped: list[Diagnostic], paths: list[bytes], loaded: LoadedRules) -> None:
    """Warn of lines that are not in the rules, and of rules that let nobody in."""
    _warn([replace(fault, message=f"left out: {fault.message}") for fault in skipped], paths, "left out")
    if skipped:
        lines = {(fault.file, fault.line) for fault in skipped}
        log(SYNOPSIS.program, "warning", f"{count(len(lines), 'line')} left out")
    _warn(parsed.remarks, paths, "never reached")
    if lets_nobody_in(loaded):
        log(SYNOPSIS.program, "warning", "these rules let nobody in (--else=allow: all clients that no line decides)")


def _warn(faults: list[Diagnostic], paths: list[bytes], what: str) -> None:
    for fault in faults[:MOST_FAULTS]:
        log(SYNOPSIS.program, "warning", f"{shown(paths[fault.file])}:{fault.line}: {fault.message}")
    if len(faults) > MOST_FAULTS:
        more = count(len(faults) - MOST_FAULTS, "more remark")
        log(SYNOPSIS.program, "warning", f"and {more} on lines that are {what}")


def _json(entry: Entry, paths: list[bytes]) -> Json:
    about = entry.provenance
    decided = wording.decision_json(entry.key, entry.rule)
    return {
        "key": decided.pop("rule"),
        **decided,
        "file": decoded(paths[entry.file]) if entry.line else None,
        "line": entry.line or None,
        "owner": about.owner or None,
        "ticket": about.ticket or None,
        "expires": str(about.expires) if about.expires else None,
        "note": about.note or None,
        "comments": list(about.comments),
    }


def _write(out: bytes | None, parsed: Parsed, loaded: LoadedRules, widest: int) -> None:
    """Write a cdb, a tree if the name ends with a slash, or a text with no wider permissions than these."""
    if out is None or not out.endswith((b".cdb", b"/")):
        write_text(text.write(parsed.entries, parsed.trailing).encode(), out, widest)
        return
    with interruptible() as interruption, writing(out):
        write(out.rstrip(b"/") or b"/", loaded, checkpoint=interruption.checkpoint)
