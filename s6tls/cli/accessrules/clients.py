"""What suggest and tighten share: the clients of logs, how many rules to make of them, and what is said of both."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.text import decoded, printable, shown
from s6tls.audit.core.networks import Family
from s6tls.audit.logs.times import Since
from s6tls.audit.policy.expect import violations
from s6tls.audit.questions.diff import Clients
from s6tls.cli.accessrules.common import count, reading
from s6tls.cli.accessrules.expect import expectations_in, tally
from s6tls.cli.accessrules.formats import write_text
from s6tls.cli.accessrules.logs import open_log, tell_of_log
from s6tls.cli.frame.options import Given, Option, UsageError
from s6tls.cli.frame.program import Failure
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.progress import Progress
    from s6tls.audit.core.wording import Json

SINCE = Option(
    "",
    ("since",),
    "YYYY-MM-DD",
    "leave out lines that were logged before this day, local time. A line without a time is not left out",
)
EXPECT = Option(
    "",
    ("expect",),
    "FILE",
    "write nothing if an [expectation](s6-accessrules-expect.md) in FILE fails; may be repeated",
)


_FEW = 3
_FIRST_YEAR = 1970


class Seen(NamedTuple):
    """The clients of all logs from a day on, or ever, and what is known about each log, as JSON has it."""

    clients: Clients
    logs: list[Json]
    since: date | None

    @property
    def number(self) -> int:
        """How many clients there are."""
        return sum(len(self.clients.numbers(family)) for family in Family)

    @property
    def hits(self) -> int:
        """How many lines they have."""
        return sum(self.clients.count(family, [(0, family.size)])[1] for family in Family)

    def told(self) -> str:
        """Return who was seen, where, and since when: ``2 clients, 1,204 hits, in access.log since 2026-11-01``."""
        names = [printable(log["path"]) for log in self.logs]
        more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
        since = f" since {self.since}" if self.since else ""
        return f"{count(self.number, 'client')}, {count(self.hits, 'hit')}, in {', '.join(names[:_FEW])}{more}{since}"


def read_clients(program: str, given: Given, progress: Progress) -> Seen:
    """Read the logs that are named, and say what each was taken for.  Raises Failure, also if nobody is in them."""
    day = _day(given.value("since"))
    clients = Clients()
    logs: list[Json] = []
    for path in given.rest:
        since = None if day is None else Since(datetime(day.year, day.month, day.day).astimezone())
        with reading(path):
            found = open_log(path, given, progress, since)
            clients.add(found.hits())
        tell_of_log(program, path, found)
        known: Json = {"format": found.format or None, "lines": found.lines, "unread": found.unread}
        if since is not None:
            log(program, "info", f"{shown(path)}: {count(since.left_out, 'line')} before {day} left out")
            known["left_out"] = since.left_out
        logs.append({"path": decoded(path), **known})
    seen = Seen(clients, logs, day)
    if not seen.number:
        raise Failure(ExitCode.SYSTEM, "unable to make rules: nobody is in the logs")
    return seen


def _day(value: bytes | None) -> date | None:
    """Read --since.  Raises UsageError."""
    if value is None:
        return None
    try:
        day = date.fromisoformat(value.decode())
        if day.year < _FIRST_YEAR:
            raise ValueError
        return day
    except ValueError:
        raise UsageError(f"invalid value for --since: {shown(value)} (expected YYYY-MM-DD)") from None


def refuse_surprises(program: str, given: Given, loaded: LoadedRules) -> None:
    """Raise Failure if the rules that were made are not as --expect expects."""
    number = failing = 0
    for file in given.values("expect"):
        for expectation in expectations_in(file):
            failed = list(violations(loaded, [expectation]))
            for violation in failed:
                log(program, "error", f"{shown(file)}: {'; '.join(violation.lines())}")
            number += 1
            failing += bool(failed)
    if failing:
        raise Failure(ExitCode.FINDINGS, f"{tally(failing, number)}: nothing is written")


def by_family(counts: dict[Family, int]) -> Json:
    """Return counts as JSON has them."""
    return {family.value: counts[family] for family in Family}


def in_words(counts: dict[Family, int]) -> str:
    """Return counts of addresses for people: those of each family that has some, or none."""
    return ", ".join(f"{number:,} {family.label}" for family, number in counts.items() if number) or "none"


def say_rules(summary: Iterable[str], rules: str) -> None:
    """Write rules as a text to stdout, with a summary in comments ahead of them.  Raises Failure."""
    write_text(("".join(f"# {line}\n" for line in summary) + rules).encode(), None, 0)
