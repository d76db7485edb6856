"""s6-accessrules replay: what rules decide for the clients of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.keys import address_text
from s6tls.audit import answer
from s6tls.audit.replay import Replay
from s6tls.cli.accessrules.common import FINDINGS, JSON, Table, load, progress, reading, say, say_json
from s6tls.cli.accessrules.logs import FIELD, FORMAT, open_log, warn_of_unread
from s6tls.cli.options import Option, Synopsis, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.audit.contents import Contents

SYNOPSIS = Synopsis(
    "s6-accessrules replay",
    (
        Option("", ("against",), "NEW", "list the clients that the rule set NEW decides on differently"),
        FORMAT,
        FIELD,
        JSON,
    ),
    "RULES LOG...",
)


def body(argv: list[bytes]) -> int:
    """Replay the logs; there is something to report when decisions flip."""
    options, words = SYNOPSIS.parse_mixed(argv)
    chosen = dict(options)
    if len(words) < 2:
        raise UsageError
    rules, *paths = words
    with progress() as told:
        contents = load(rules, told)
        against = load(chosen["against"], told) if "against" in chosen else None
        replay = Replay(contents, against, progress=told)
        logs = []
        for path in paths:
            with reading(path):
                log = open_log(path, chosen, told)
                replay.read(log)
            logs.append((path, log))
        replay.finish()
    for path, log in logs:
        warn_of_unread(SYNOPSIS.program, path, log)
    if "json" in chosen:
        say_json(replay.json())
    else:
        _tell(replay, contents)
    return FINDINGS if replay.flipped else 0


def _tell(replay: Replay, contents: Contents) -> None:
    say(f"lines: {replay.lines}, {replay.unread} without an address")
    say(f"clients: {len(replay.clients)}" + (f", and more with {replay.beyond} hits" if replay.beyond else ""))
    verdicts = replay.verdicts
    say(f"hits: {verdicts['allow']} allowed, {verdicts['deny']} denied, {verdicts['notfound']} undecided")
    if replay.compares:
        say(f"flipped: {replay.flipped} hits")
    _show(
        ("hits", "rule", "decision"),
        ((hits, answer.text(key), answer.summary(contents.rules[key])) for key, hits in replay.rules.most_common()),
    )
    _show(
        ("unused rule", "decision"),
        ((answer.text(key), answer.summary(contents.rules[key])) for key in replay.unused()),
    )
    _show(
        ("hits", "undecided client"),
        ((hits, address_text(packed).decode()) for packed, hits in replay.undecided.items()),
    )
    _show(
        ("hits", "client", "before", "after"),
        (
            (flip.hits, flip.client, answer.summary(flip.before.rule), answer.summary(flip.after.rule))
            for flip in replay.flips
        ),
    )


def _show(headings: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Show a table, if it has rows, behind a blank line."""
    table = Table(*headings, right=[0] if headings[0] == "hits" else [])
    empty = True
    for row in rows:
        table.add(*row)
        empty = False
    if not empty:
        say("")
        table.show()
