"""The part of a report that shows what rules have decided for the clients of logs."""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import TYPE_CHECKING

from s6tls.accessrules.keys import address_text
from s6tls.accessrules.text import printable
from s6tls.audit.core import wording
from s6tls.audit.questions.coverage import share
from s6tls.audit.report.sections import number, rule_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.logs.replay import Replay

MOST = 50
"""So many rules, and so many clients, are written out."""


def hits(replay: Replay, loaded: LoadedRules) -> str:
    """Return the hits of each verdict, the rules that have most, those without any, and clients that none decides."""
    beyond = f", and more with {replay.beyond:,} hits" if replay.beyond else ""
    verdicts = {"allow": "allow", "deny": "deny", "undecided": "notfound"}
    total = replay.verdicts.total()
    return (
        f"<p>Lines: {replay.lines:,}, {replay.unread:,} of them without an address. "
        f"Clients: {len(replay.clients):,}{beyond}.</p>"
        + _table(
            ("Decision", "Share", "Hits"),
            [
                (f'<th scope="row">{word}</th><td>{escape(share(count, total) if total else "")}</td>', count)
                for word, count in ((word, replay.verdicts[verdict]) for word, verdict in verdicts.items())
            ],
        )
        + _table(
            ("Rules with most hits", "Decision", "Hits"),
            [
                (f"<td>{rule_link(key)}</td><td>{escape(printable(wording.summary(loaded.rules[key])))}</td>", count)
                for key, count in replay.by_hits()[:MOST]
            ],
        )
        + _folded("rules without a hit", replay.unused())
        + _table(
            ("Clients that no rule by address decides", "Hits"),
            [
                (f"<td><code>{address_text(packed).decode()}</code></td>", count)
                for packed, count in islice(replay.undecided.items(), MOST)
            ],
        )
    )


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, int]]) -> str:
    """Return a table whose rows are their first cells, and a number; without rows, nothing."""
    if not rows:
        return ""
    *texts, last = headings
    heading = "".join(f'<th scope="col">{text}</th>' for text in texts)
    heading += f'<th scope="col" class="number">{last}</th>'
    body = "".join(f"<tr>{cells}{number(count)}</tr>" for cells, count in rows)
    return f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"


def _folded(what: str, keys: Sequence[bytes]) -> str:
    if not keys:
        return ""
    listed = "".join(f"<li>{rule_link(key)}</li>" for key in keys[:MOST])
    more = f"<li>and {len(keys) - MOST:,} more</li>" if len(keys) > MOST else ""
    return f"<details><summary>{len(keys):,} {what}</summary><ul>{listed}{more}</ul></details>"
