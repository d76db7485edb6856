"""s6-accessrules report: one page with all about a rule set."""

from __future__ import annotations

import os
import stat
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded
from s6tls.audit.logs.replay import Replay
from s6tls.audit.picture.palette import COLOURINGS
from s6tls.audit.report.report import Earlier, report
from s6tls.cli.accessrules.common import (
    JSON,
    count,
    load,
    progress,
    reading,
    refuse_overwriting,
    rules_at,
    say,
    say_json,
    write_whole,
)
from s6tls.cli.accessrules.logs import OPTIONS, open_log, refuse_without_log, tell_of_log
from s6tls.cli.frame.options import Option, Synopsis

if TYPE_CHECKING:
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.progress import Progress
    from s6tls.audit.core.wording import Json
    from s6tls.cli.frame.options import Given

SYNOPSIS = Synopsis(
    "s6-accessrules report",
    (
        Option("", ("against",), "OLD", "say what has changed since this rule set, and show it on a map"),
        Option(
            "",
            ("colour-by", "color-by"),
            "|".join(COLOURINGS),
            "what the [colours](s6-accessrules-map.md#colours) of the map stand for. Default: `verdict`",
        ),
        Option("", ("log",), "FILE", "show how often rules have decided for the clients of a log; may be repeated"),
        *OPTIONS,
        JSON,
    ),
    "RULES OUT",
)


def body(argv: list[bytes]) -> int:
    """Write the report that these words ask for."""
    given = SYNOPSIS.read_mixed(argv)
    rules, out = given.words
    old, colour_by = given.value("against"), given.choice("colour-by", "verdict")
    if not given.flag("log"):
        refuse_without_log(given)
    for source in (rules, *given.values("against"), *given.values("log")):
        refuse_overwriting(source, out)
    with progress() as tell:
        earlier = None if old is None else Earlier(old, load(old, tell))

        def replay(loaded: LoadedRules) -> Replay:
            return _replayed(loaded, given, tell)

        with rules_at(rules) as place:
            made = report(
                place,
                name=rules,
                colour_by=colour_by,
                against=earlier,
                replay=replay if given.flag("log") else None,
                progress=tell,
            )
    write_whole(out, made.html.encode(), reduce(and_, map(_mode, given.values("log")), made.mode))
    if given.flag("json"):
        said: Json = {"out": decoded(out), "rules": made.rules, "findings": len(made.findings)}
        say_json(said if made.differences is None else {**said, "differences": made.differences})
    else:
        changed = "" if made.differences is None else f", {count(made.differences, 'difference')}"
        say(f"{decoded(out)}: {count(made.rules, 'rule')}, {count(len(made.findings), 'finding')}{changed}")
    return 0


def _mode(log: bytes) -> int:
    """Return the permissions of a log; of what is no plain file, its reader's alone."""
    with reading(log):
        status = os.fstat(0) if log == b"-" else os.stat(log)
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else 0o600


def _replayed(loaded: LoadedRules, given: Given, tell: Progress) -> Replay:
    replay = Replay(loaded, progress=tell)
    for path in given.values("log"):
        with reading(path):
            log = open_log(path, given, tell)
            replay.read(log)
        tell_of_log(SYNOPSIS.program, path, log)
    replay.finish()
    return replay
