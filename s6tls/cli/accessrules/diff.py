"""s6-accessrules diff: who is decided about differently."""

from __future__ import annotations

import json
import sys
from itertools import islice
from typing import TYPE_CHECKING

from s6tls.audit import answer
from s6tls.audit.answer import Decided
from s6tls.audit.diff import Clients, Difference, OtherDifference, differences, other_differences
from s6tls.audit.networks import Family
from s6tls.cli.accessrules.common import FINDINGS, JSON, Table, load, progress, reading, say
from s6tls.cli.accessrules.logs import FIELD, FORMAT, open_log, warn_of_unread
from s6tls.cli.options import Option, Synopsis, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from s6tls.audit.answer import Json
    from s6tls.audit.progress import Progress

    AnyDifference = Difference | OtherDifference
    More = Callable[[AnyDifference], Json]

SYNOPSIS = Synopsis(
    "s6-accessrules diff",
    (
        Option("", ("witness",), None, "give an example address for each difference"),
        Option("", ("log",), "FILE", "count the clients of a log that each difference touches; may be repeated"),
        FORMAT,
        FIELD,
        JSON,
    ),
    "OLD NEW",
)

MOST_ROWS = 1000
MOST_PREFIXES = 3
_BATCH = 1000


def body(argv: list[bytes]) -> int:
    """Compare two rule sets."""
    options, words = SYNOPSIS.parse_mixed(argv)
    chosen = dict(options)
    if len(words) != 2:
        raise UsageError
    if "log" not in chosen and ("format" in chosen or "field" in chosen):
        raise UsageError("--format and --field are for --log")
    with progress() as told:
        old, new = [load(path, told) for path in words]
        clients = _clients([value for name, value in options if name == "log"], chosen, told)
        found: list[AnyDifference] = [*differences(old, new, progress=told), *other_differences(old, new)]

    def more(difference: AnyDifference) -> Json:
        """Return what the options ask for; names have no addresses and are in no log."""
        asked: Json = {}
        if "witness" in chosen:
            asked["witness"] = difference.witness if isinstance(difference, Difference) else None
        if "log" in chosen:
            within = clients.within(difference) if isinstance(difference, Difference) else (None, None)
            asked["clients"], asked["hits"] = within
        return asked

    if "json" in chosen:
        _write_json(found, more)
    else:
        _tell(found, more)
    return FINDINGS if found else 0


def _clients(paths: list[bytes], chosen: dict[str, bytes], told: Progress) -> Clients:
    clients = Clients()
    for path in paths:
        with reading(path):
            log = open_log(path, chosen, told)
            clients.add(log.hits())
        warn_of_unread(SYNOPSIS.program, path, log)
    return clients


def _write_json(found: list[AnyDifference], more: More) -> None:
    """Write what `say_json` would write, but piece by piece: it may be more than memory holds."""
    write = sys.stdout.write
    separator = "["
    for difference in found:
        write(f'{separator}{{"family": {json.dumps(difference.family_name)}, "prefixes": [')
        names = difference.each_prefix()
        comma = ""
        while batch := list(islice(names, _BATCH)):
            write(comma + json.dumps(batch)[1:-1])
            comma = ", "
        write("], " + json.dumps({**difference.details(), **more(difference)})[1:])
        separator = ", "
    write("]\n" if found else "[]\n")


def _tell(found: list[AnyDifference], more: More) -> None:
    if not found:
        say("no differences")
        return
    first = found[:MOST_ROWS]
    headings = ["prefixes", "addresses", "before", "rule", "after", "rule", *more(first[0])]
    numbers = [column for column, heading in enumerate(headings) if heading in ("addresses", "clients", "hits")]
    table = Table(*headings, right=numbers)
    for difference in first:
        table.add(
            _prefixes(difference),
            _shown(difference.addresses),
            answer.summary(difference.before.rule),
            _key(difference.before),
            answer.summary(difference.after.rule),
            _key(difference.after),
            *map(_shown, more(difference).values()),
        )
    table.show()
    if len(found) > MOST_ROWS:
        say(f"… and {len(found) - MOST_ROWS} more; --json gives all")
    say("")
    for family in Family:
        addresses = sum(d.addresses for d in found if isinstance(d, Difference) and d.family is family)
        say(f"{family.value}: {addresses} addresses are decided differently")
    others = sum(isinstance(d, OtherDifference) for d in found)
    if others:
        say(f"rules of other families: {others}")


def _prefixes(difference: AnyDifference) -> str:
    words = list(islice(difference.each_prefix(), MOST_PREFIXES))
    if isinstance(difference, OtherDifference):
        return f"{difference.family_name}/{words[0]}"
    rest = difference.count_prefixes() - len(words)
    return " ".join(words) + (f" … and {rest} more" if rest else "")


def _key(decided: Decided) -> str:
    return "-" if decided.key is None else answer.text(decided.key)


def _shown(value: object) -> str:
    return "-" if value is None else str(value)
