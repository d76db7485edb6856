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

from s6tls.accessrules.text import decoded, printable
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import opened
from s6tls.audit.core.networks import Family
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.lint.run import examine
from s6tls.audit.picture import render, scenes
from s6tls.audit.questions.coverage import coverage
from s6tls.audit.questions.diff import Clients
from s6tls.audit.report import sections
from s6tls.audit.report.changes import changes, compared
from s6tls.audit.report.hits import hits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.lint.findings import Finding
    from s6tls.audit.logs.replay import Replay
    from s6tls.audit.questions.coverage import Coverage


@dataclass(frozen=True)
class Report:
    """A page about a rule set.

    `name` is that of its file, without directories, and `mode` its permissions; `rules` says how many there are.
    `differences` are those from an earlier set, None without one.
    """

    name: str
    mode: int
    rules: int
    findings: list[Finding]
    html: str
    differences: int | None = None


@dataclass(frozen=True)
class Earlier:
    """A rule set to compare with, and the path that it is from."""

    path: str | bytes
    rules: LoadedRules


def report(
    path: str | bytes,
    *,
    name: str | bytes | None = None,
    colour_by: str = "verdict",
    against: Earlier | None = None,
    replay: Callable[[LoadedRules], Replay] | None = None,
    progress: Progress = silent,
) -> Report:
    """Make a page about a rule set, in either form, which is called as the file is, or as one at `name`.

    The map is coloured by one of `palette.COLOURINGS`.  With `against` the page says what has changed since that set;
    with `replay`, which replays logs with the rules that it is given, what these have decided.

    The same rules under the same name make the same page.  Raises OSError or RuleSetError if a rule cannot be read.
    """
    title = _name(name or path)
    with opened(path) as backend:
        loaded, findings = examine(name or path, backend, strict=True, progress=progress)
    covered = [coverage(loaded, family, progress) for family in Family]
    style, script = _packaged("style.css"), _packaged("report.js")
    scene = scenes.scene(loaded, colour_by, title=title, progress=progress)
    replayed = None if replay is None else replay(loaded)
    found = None if against is None else compared(against.rules, loaded, progress)
    asked: dict[str, tuple[str, str]] = {}
    if against is not None and found is not None:
        clients = None if replayed is None else Clients()
        if clients is not None and replayed is not None:
            clients.add(replayed.clients.items())
        asked["changes"] = ("Changes", changes(found, against.rules, loaded, _name(against.path), clients))
    if replayed is not None:
        asked["hits"] = ("Hits", hits(replayed, loaded))
    html = Template(_packaged("page.html")).substitute(
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'",
        name=escape(title),
        style=style,
        script=script,
        summary=sections.summary(loaded, findings),
        findings=sections.findings(findings),
        coverage=sections.coverage(covered),
        map=sections.map_of(render.svg(scene)),
        links="".join(f'<li><a href="#{section}">{title}</a></li>' for section, (title, _) in asked.items()),
        asked="\n".join(sections.section(section, *text) for section, text in asked.items()),
        order_by_hits='<option value="hits">by hits</option>' if replayed else "",
        heading_of_hits='<th role="columnheader" scope="col" class="number">Hits</th>' if replayed else "",
        data=_embedded(loaded, covered, replayed),
    )
    mode = loaded.mode if against is None else loaded.mode & against.rules.mode
    return Report(title, mode, len(loaded.rules), findings, html, None if found is None else len(found))


def _name(path: str | bytes) -> str:
    return printable(decoded(os.path.basename(os.path.abspath(os.fsencode(path)))))


def _packaged(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text("utf-8")


def _digest(text: str) -> str:
    """Return the source of a policy that means a style or script of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(loaded: LoadedRules, covered: list[Coverage], replayed: Replay | None) -> str:
    """Return the rules as JSON for the script, fit to stand in a page.

    ``keys``, ``outcome`` (an index into ``outcomes``) and ``decided`` (digits; null in families without addresses) are
    parallel: networks in their order, then what is left.  ``opaque`` are the indexes of keys that are not UTF-8.
    ``hits``, with logs only, are parallel, too.
    """
    keys: list[str] = []
    outcome: list[int] = []
    decided: list[str | None] = []
    opaque: list[int] = []
    outcomes: dict[Rule, int] = {}
    for key, rule, count in _ordered(loaded, covered):
        if not _is_text(key):
            opaque.append(len(keys))
        keys.append(decoded(key))
        outcome.append(outcomes.setdefault(rule, len(outcomes)))
        decided.append(None if count is None else str(count))
    data: dict[str, Any] = {
        "outcomes": [_outcome(rule) for rule in outcomes],
        "keys": keys,
        "outcome": outcome,
        "decided": decided,
        "opaque": opaque,
    }
    if replayed is not None:
        found = [(key, count) for key, _, count in _ordered(loaded, covered)]
        data["hits"] = [None if count is None else replayed.rules[key] for key, count in found]
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _ordered(loaded: LoadedRules, covered: list[Coverage]) -> Iterator[tuple[bytes, Rule, int | None]]:
    for found in covered:
        for key, count in found.rules.items():
            yield key, loaded.rules[key], count
    by_address = {key for found in covered for key in found.rules}
    for key in sorted(loaded.rules.keys() - by_address):
        yield key, loaded.rules[key], None


def _outcome(rule: Rule) -> dict[str, Any]:
    decision = wording.decision_json(None, rule)
    return {name: decision[name] for name in ("verdict", "env", "exec")}


def _is_text(key: bytes) -> bool:
    try:
        key.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
