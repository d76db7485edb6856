"""s6-accessrules replay: what rules decide for the clients of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from s6tls.accessrules.keys import address_text
from s6tls.accessrules.text import decoded
from s6tls.audit.core import wording
from s6tls.audit.logs import jobs
from s6tls.audit.logs.replay import Replay
from s6tls.cli.accessrules.common import JSON, MOST_ROWS, TOP, Table, count, load, progress, reading, say, say_json
from s6tls.cli.accessrules.logs import OPTIONS, open_log, opener, sql_log, tell_of_log
from s6tls.cli.frame.options import Given, Option, Synopsis
from s6tls.posix.exitcodes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from functools import partial

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.progress import Progress
    from s6tls.audit.core.wording import Json
    from s6tls.audit.logs.log import Log
    from s6tls.audit.logs.replay import Flip
    from s6tls.audit.logs.tally import Tally

T = TypeVar("T")

MOST_JOBS = 1024

SYNOPSIS = Synopsis(
    "s6-accessrules replay",
    (
        Option("", ("against",), "NEW", "list the clients that the rule set NEW decides on differently"),
        *OPTIONS,
        Option(
            "",
            ("sql",),
            None,
            "read logs with DuckDB: each LOG is a pattern such as `logs/*.parquet` for files of Parquet, CSV or JSON, "
            "or of lines with `--format=plain` or `--regex`",
        ),
        Option("", ("jobs",), "N", "read logs with N processes; 0 means one for each processor. Default: 1"),
        TOP,
        JSON,
    ),
    "RULES LOG...",
)


def body(argv: list[bytes]) -> int:
    """Replay the logs; there is something to report when decisions flip."""
    given = SYNOPSIS.read_mixed(argv)
    (rules,), new = given.words, given.value("against")
    most = given.number("top", MOST_ROWS)
    with progress() as tell:
        contents = load(rules, tell)
        against = None if new is None else load(new, tell)
        replay = Replay(contents, against, progress=tell)
        logs = _read(replay, given, tell)
        replay.finish()
    for path, log in logs:
        tell_of_log(SYNOPSIS.program, path, log)
    if given.flag("json"):
        say_json({**replay.json(), "logs": [_json(path, log) for path, log in logs]})
    else:
        _tell(replay, contents, most)
    return ExitCode.FINDINGS if replay.flipped else 0


def _read(replay: Replay, given: Given, tell: Progress) -> Sequence[tuple[bytes, Tally]]:
    """Read all logs, and return each with its path."""
    number = given.number("jobs", 1, 0, MOST_JOBS) or jobs.cores()
    if given.flag("sql"):
        return _queried(replay, given, number if given.flag("jobs") else None)
    logs = []
    for path in given.rest:
        with reading(path):
            log = open_log(path, given, tell)
            if number == 1:
                replay.read(log)
        logs.append((path, log))
    if number > 1:
        _read_at_once(replay, logs, [opener(path, given) for path in given.rest], number)
    return logs


def _queried(replay: Replay, given: Given, threads: int | None) -> list[tuple[bytes, Tally]]:
    logs: list[tuple[bytes, Tally]] = []
    for pattern in given.rest:
        with reading(pattern):
            log = sql_log(pattern, given, threads)
            replay.count(log.hits())
        replay.close(log)
        logs.append((pattern, log))
    return logs


def _read_at_once(replay: Replay, logs: list[tuple[bytes, Log]], openers: list[partial[Log]], number: int) -> None:
    try:
        for _, hits in jobs.read([log for _, log in logs], openers, number):
            replay.count(hits)
    except jobs.Failed as failed:
        with reading(logs[failed.log][0]):
            raise failed.error from None
    for _, log in logs:
        replay.close(log)


def _tell(replay: Replay, contents: LoadedRules, most: int) -> None:
    def rule(key: bytes) -> tuple[str, str]:
        return decoded(key), wording.summary(contents.rules[key])

    def show(headings: tuple[str, ...], items: Collection[T], cells: Callable[[T], Iterable[object]]) -> None:
        """Show a table, if it has rows, between blank lines."""
        if items:
            table = Table(*headings, right=[0] if headings[0] == "hits" else [], most=most)
            table.add(items, cells)
            table.show()
            say("")

    _tell_summary(replay)
    say("")
    show(("hits", "rule", "decision"), replay.by_hits(), lambda used: (used[1], *rule(used[0])))
    show(("unused rule", "decision"), replay.unused(), rule)
    show(
        ("hits", "undecided client"),
        replay.undecided.items(),
        lambda client: (client[1], address_text(client[0]).decode()),
    )
    show(("hits", "client", "before", "after"), replay.flips, _flip)
    _tell_summary(replay)


def _tell_summary(replay: Replay) -> None:
    say(f"lines: {replay.lines:,}, {replay.unread:,} without an address")
    say(
        f"clients: {len(replay.clients):,}"
        + (f", and more with {count(replay.beyond, 'hit')}" if replay.beyond else "")
    )
    verdicts = replay.verdicts
    say(f"hits: {verdicts['allow']:,} allowed, {verdicts['deny']:,} denied, {verdicts['notfound']:,} undecided")
    if replay.compares:
        say(f"flipped: {count(replay.flipped, 'hit')}")


def _json(path: bytes, log: Tally) -> Json:
    """Return what a log was taken for, None for an empty one."""
    return {"path": decoded(path), "format": log.format or None, "lines": log.lines, "unread": log.unread}


def _flip(flip: Flip) -> tuple[object, ...]:
    return flip.hits, flip.client, wording.summary(flip.before.rule), wording.summary(flip.after.rule)
