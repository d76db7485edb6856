"""s6-accessrules diff: who is decided about differently."""

from __future__ import annotations

import json
import sys
from itertools import islice
from typing import TYPE_CHECKING

from s6tls.audit.core import wording
from s6tls.audit.core.networks import Family
from s6tls.audit.questions.diff import Clients, Difference, OtherDifference, differences, other_differences
from s6tls.cli.accessrules.common import JSON, JSON_VERSION, Table, count, load, portable, progress, reading, say
from s6tls.cli.accessrules.logs import OPTIONS, open_log, refuse_without_log, tell_of_log
from s6tls.cli.frame.options import Given, Option, Synopsis
from s6tls.posix.exitcodes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from s6tls.audit.core.progress import Progress
    from s6tls.audit.core.wording import Json

    AnyDifference = Difference | OtherDifference
    More = Callable[[AnyDifference], Json]

SYNOPSIS = Synopsis(
    "s6-accessrules diff",
    (
        Option("", ("witness",), None, "give an example address for each difference"),
        Option("", ("log",), "FILE", "count the clients of a log that each difference touches; may be repeated"),
        *OPTIONS,
        JSON,
    ),
    "OLD NEW",
)

_BATCH = 1000


def body(argv: list[bytes]) -> int:
    """Compare two rule sets."""
    given = SYNOPSIS.read_mixed(argv)
    if not given.flag("log"):
        refuse_without_log(given)
    with progress() as tell:
        old, new = [load(path, tell) for path in given.words]
        clients = _clients(given, tell)
        found: list[AnyDifference] = [*differences(old, new, progress=tell), *other_differences(old, new)]

    def more(difference: AnyDifference) -> Json:
        """Return what the options ask for; names have no addresses and are in no log."""
        asked: Json = {}
        if given.flag("witness"):
            asked["witness"] = difference.witness if isinstance(difference, Difference) else None
        if given.flag("log"):
            within = clients.within(difference) if isinstance(difference, Difference) else (None, None)
            asked["clients"], asked["hits"] = within
        return asked

    if given.flag("json"):
        _write_json(found, more)
    else:
        _tell(found, more)
    return ExitCode.FINDINGS if found else 0


def _clients(given: Given, tell: Progress) -> Clients:
    clients = Clients()
    for path in given.values("log"):
        with reading(path):
            log = open_log(path, given, tell)
            clients.add(log.hits())
        tell_of_log(SYNOPSIS.program, path, log)
    return clients


def _write_json(found: list[AnyDifference], more: More) -> None:
    """Write what `say_json` would write, but piece by piece: it may be more than memory holds."""
    write = sys.stdout.write
    write(f'{{"version": {JSON_VERSION}, "differences": ')
    separator = "["
    for difference in found:
        write(f'{separator}{{"family": {json.dumps(difference.family_name)}, "prefixes": [')
        names = difference.each_prefix()
        comma = ""
        while batch := list(islice(names, _BATCH)):
            write(comma + json.dumps(batch)[1:-1])
            comma = ", "
        write("], " + json.dumps(portable({**difference.details(), **more(difference)}))[1:])
        separator = ", "
    write("]}\n" if found else "[]}\n")


def _tell(found: list[AnyDifference], more: More) -> None:
    if not found:
        say("no differences")
        return
    headings = ["prefixes", "addresses", "before", "after", *more(found[0])]
    numbers = [column for column, heading in enumerate(headings) if heading in ("addresses", "clients", "hits")]
    table = Table(*headings, right=numbers)
    table.add(found, lambda difference: _row(difference, more))
    table.show()
    say("")
    for family in Family:
        addresses = sum(d.addresses for d in found if isinstance(d, Difference) and d.family is family)
        say(f"{family.value}: {count(addresses, 'address')} decided differently")
    others = sum(isinstance(d, OtherDifference) for d in found)
    if others:
        say(f"other families: {count(others, 'rule')}")


def _row(difference: AnyDifference, more: More) -> list[object]:
    before, after = difference.before, difference.after
    return [
        difference.first_prefixes() if isinstance(difference, Difference) else _name(difference),
        difference.addresses,
        wording.summary(before.rule, before.key),
        wording.summary(after.rule, after.key),
        *more(difference).values(),
    ]


def _name(difference: OtherDifference) -> str:
    (name,) = difference.each_prefix()
    return f"{difference.family_name}/{name}"
