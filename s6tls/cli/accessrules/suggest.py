"""s6-accessrules suggest: allow rules for the clients of logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.text import shown
from s6tls.audit.core.networks import Family
from s6tls.audit.formats import cidrlist, text
from s6tls.audit.minimise.minimise import Unproven
from s6tls.audit.suggest.forest import Limit
from s6tls.audit.suggest.known import NOTHING_KNOWN, Known
from s6tls.audit.suggest.suggest import Unreachable, prove_suggestion, suggest
from s6tls.cli.accessrules.clients import EXPECT, SINCE, by_family, in_words, read_clients, refuse_surprises, say_rules
from s6tls.cli.accessrules.common import JSON, count, load, progress, say_json
from s6tls.cli.accessrules.formats import parsing
from s6tls.cli.accessrules.logs import OPTIONS
from s6tls.cli.frame.options import Given, Option, Synopsis, UsageError
from s6tls.cli.frame.program import Failure
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.audit.suggest.suggest import Suggestion
    from s6tls.cli.accessrules.clients import Seen

SYNOPSIS = Synopsis(
    "s6-accessrules suggest",
    (
        Option(
            "",
            ("allow-below",),
            "RULES",
            "allow nobody whom RULES does not allow, and give each client the environment and exec that it has there",
        ),
        Option("", ("max-rules",), "N", "at most N rules for each family, which let in as few addresses as they can"),
        Option(
            "",
            ("budget",),
            "ADDRESSES",
            "the fewest rules that let in at most so many addresses beyond the clients. Default: 0",
            alternative=True,
        ),
        Option(
            "",
            ("known",),
            "LIST",
            "networks that belong together, one a line: with a client the narrowest one that holds it comes in, at no "
            "cost to `--budget`",
        ),
        EXPECT,
        "Logs",
        SINCE,
        *OPTIONS,
        "Output",
        JSON,
    ),
    "LOG...",
)


def body(argv: list[bytes]) -> int:
    """Suggest rules for the clients that these logs name."""
    given = SYNOPSIS.read_mixed(argv)
    limit, known = _limit(given), _known(given)
    rules = given.value("allow-below")
    with progress() as tell:
        below = None if rules is None else load(rules, tell)
        seen = read_clients(SYNOPSIS.program, given, tell)
        try:
            found = suggest(seen.clients, below, limit, known, progress=tell)
            lost = prove_suggestion(found, seen.clients, below, progress=tell)
        except Unreachable as error:
            raise Failure(ExitCode.USAGE, f"unable to keep to --max-rules: {error}") from error
        except Unproven as error:
            raise Failure(ExitCode.SYSTEM, f"unable to suggest rules: they are not proved: {error}") from error
    refuse_surprises(SYNOPSIS.program, given, found.loaded)
    if not found.proposals:
        log(SYNOPSIS.program, "warning", "nobody is allowed: none of the clients is allowed by the rules given")
    if given.flag("json"):
        say_json(_json(found, seen, None if below is None else lost))
    else:
        written = text.write(proposal.entry() for proposal in found.proposals)
        head = _summary(found, seen, None if below is None else lost)
        say_rules(head, written)
    return 0


def _limit(given: Given) -> Limit:
    if given.flag("max-rules"):
        return Limit(rules=given.number("max-rules", 0, 1))
    budget = given.value("budget", b"0")
    if not budget.isdigit() or len(budget) > 40:
        raise UsageError(f"invalid value for --budget: {shown(budget)} (expected a number of addresses)")
    return Limit(addresses=int(budget))


def _known(given: Given) -> Known:
    path = given.value("known")
    if path is None:
        return NOTHING_KNOWN
    with parsing(SYNOPSIS.program, [path]) as (source,):
        return Known((said.network, said.about.note) for said in cidrlist.statements(source.data))


def _summary(found: Suggestion, seen: Seen, lost: dict[Family, int] | None) -> Iterator[str]:
    yield f"{count(len(found.proposals), 'rule')} for {seen.told()}"
    beyond = in_words({family: found.sum("beyond", family) for family in Family})
    yield f"addresses let in beyond these clients: {beyond}"
    if lost is not None:
        clients, hits = found.outside
        yield f"left out, as they were not allowed: {count(clients, 'client')}, {count(hits, 'hit')}"
        yield f"addresses allowed no longer: {in_words(lost)}"
    for family, excess in found.excess.items():
        what = count(excess, "rule" if family is None else f"{family.label} address")
        yield f"not the best there is, for the clients are too many: up to {what} too many"
    if lost is None:
        yield "proved: all clients are allowed"
    else:
        yield "proved: all other clients are decided as before, and nobody gets in whom the rules given do not allow"


def _json(found: Suggestion, seen: Seen, lost: dict[Family, int] | None) -> dict[str, object]:
    clients, hits = found.outside
    return {
        "clients": seen.number,
        "hits": seen.hits,
        "left_out": {"clients": clients, "hits": hits},
        "rules": [proposal.json() for proposal in found.proposals],
        "addresses": by_family({family: found.sum("addresses", family) for family in Family}),
        "beyond": by_family({family: found.sum("beyond", family) for family in Family}),
        "allowed_no_longer": None if lost is None else by_family(lost),
        "excess": {"all" if family is None else family.value: excess for family, excess in found.excess.items()},
        "logs": seen.logs,
    }
