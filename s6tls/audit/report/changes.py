"""The part of a report that compares the rules with an earlier set."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded, printable
from s6tls.audit.core import wording
from s6tls.audit.core.networks import Family
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.picture import render, scenes
from s6tls.audit.questions.diff import Clients, Difference, OtherDifference, differences, other_differences
from s6tls.audit.report.sections import map_of, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.wording import Decided

    AnyDifference = Difference | OtherDifference

MOST = 200
"""So many differences are written out; of more the page says how many."""


def compared(old: LoadedRules, new: LoadedRules, progress: Progress = silent) -> list[AnyDifference]:
    """Return all that differs."""
    return [*differences(old, new, progress=progress), *other_differences(old, new)]


def changes(
    found: Sequence[AnyDifference], old: LoadedRules, new: LoadedRules, name: str, clients: Clients | None
) -> str:
    """Return a table of what differs from the set called `name`, and a map; with `clients`, how many each touches."""
    said = [
        f"{family.label}: {sum(d.addresses for d in found if isinstance(d, Difference) and d.family is family):,}"
        for family in Family
    ]
    if not found:
        return f"<p>All is decided as by <code>{escape(name)}</code>.</p>"
    drawn = scenes.scene(old, against=new, title=f"Changes since {name}")
    left = len(found) - MOST
    more = f"<p>{left:,} more are not in this page: <code>s6-accessrules diff</code> lists all.</p>" if left > 0 else ""
    heading = '<th scope="col" class="number">Clients</th><th scope="col" class="number">Hits</th>' if clients else ""
    rows = "".join(_row(difference, clients) for difference in found[:MOST])
    return (
        f"<p>Since <code>{escape(name)}</code>, addresses that are decided otherwise: {'; '.join(said)}.</p>"
        '<table class="stacked" aria-label="Changes"><thead><tr><th scope="col">Networks or names</th>'
        '<th scope="col">Before</th><th scope="col">Now</th>'
        f'<th scope="col" class="number">Addresses</th>{heading}</tr></thead><tbody>{rows}</tbody></table>{more}'
        f"{map_of(render.svg(drawn), 'Map of the changes')}"
    )


def _row(difference: AnyDifference, clients: Clients | None) -> str:
    touched: tuple[int | None, int | None] = None, None
    if isinstance(difference, OtherDifference):
        what = decoded(difference.key)
    else:
        what = difference.first_prefixes()
        touched = clients.within(difference) if clients else touched
    counts = zip(touched if clients else (), ("clients", "hits"), strict=False)
    return (
        f'<tr><td data-label=""><code>{escape(printable(what))}</code></td>'
        f"{_decision('before', difference.before)}{_decision('now', difference.after)}"
        f"{number(difference.addresses, 'addresses')}"
        f"{''.join(number(count, label) for count, label in counts)}</tr>"
    )


def _decision(label: str, decided: Decided) -> str:
    verdict = wording.verdict(decided.rule)
    rest = wording.summary(decided.rule, decided.key).removeprefix(wording.brief(decided.rule))
    return (
        f'<td data-label="{label}"><span class="verdict {verdict}">{wording.brief(decided.rule)}</span>'
        f"{escape(printable(rest))}</td>"
    )
