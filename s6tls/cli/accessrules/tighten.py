"""s6-accessrules tighten: narrower rules, which decide as before for the clients of logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded
from s6tls.audit.core.networks import Family
from s6tls.audit.minimise.minimise import Unproven
from s6tls.audit.suggest.tighten import prove_tightened, tighten
from s6tls.cli.accessrules.clients import EXPECT, SINCE, by_family, in_words, read_clients, refuse_surprises, say_rules
from s6tls.cli.accessrules.common import JSON, count, load, progress, say_json
from s6tls.cli.accessrules.logs import OPTIONS
from s6tls.cli.frame.options import Option, Synopsis
from s6tls.cli.frame.program import Failure
from s6tls.posix.exitcodes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.audit.suggest.tighten import Tightened
    from s6tls.cli.accessrules.clients import Seen

SYNOPSIS = Synopsis(
    "s6-accessrules tighten",
    (
        Option("", ("max-rules",), "N", "let at most N rules stand for each allow rule. Default: 1"),
        EXPECT,
        "Logs",
        SINCE,
        *OPTIONS,
        "Output",
        JSON,
    ),
    "RULES LOG...",
)


def body(argv: list[bytes]) -> int:
    """Tighten the rules for the clients that these logs name."""
    given = SYNOPSIS.read_mixed(argv)
    most = given.number("max-rules", 1, 1)
    (rules,) = given.words
    with progress() as tell:
        old = load(rules, tell)
        seen = read_clients(SYNOPSIS.program, given, tell)
        new = tighten(old, seen.clients, most, progress=tell)
        try:
            lost = prove_tightened(old, new, seen.clients, progress=tell)
        except Unproven as error:
            raise Failure(ExitCode.SYSTEM, f"unable to tighten the rules: it is not proved: {error}") from error
    refuse_surprises(SYNOPSIS.program, given, new.loaded)
    if given.flag("json"):
        say_json(_json(new, seen, lost))
    else:
        say_rules(_summary(len(old.rules), new, seen, lost), new.write())
    return 0


def _summary(before: int, new: Tightened, seen: Seen, lost: dict[Family, int]) -> Iterator[str]:
    yield f"{count(before, 'rule')} before, {len(new.rules):,} after, for {seen.told()}"
    yield f"never used: {count(len(new.unused), 'rule')}, of which {len(new.gone):,} allowed and are left out"
    yield f"addresses allowed no longer: {in_words(lost)}"
    yield "proved: all clients are decided as before, and nobody is let in who was not before"


def _json(new: Tightened, seen: Seen, lost: dict[Family, int]) -> dict[str, object]:
    return {
        "clients": seen.number,
        "hits": seen.hits,
        "rules": [tight.json() for tight in new.rules],
        "unused": [decoded(key) for key in new.unused],
        "allowed_no_longer": by_family(lost),
        "logs": seen.logs,
    }
