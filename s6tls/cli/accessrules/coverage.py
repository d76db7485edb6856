"""s6-accessrules coverage: how many addresses are allowed, denied and undecided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded
from s6tls.audit.core.networks import Family
from s6tls.audit.questions.coverage import count_others, coverage, share
from s6tls.cli.accessrules.common import JSON, MOST_ROWS, TOP, Table, count, load, progress, say, say_json
from s6tls.cli.frame.options import Synopsis

if TYPE_CHECKING:
    from s6tls.audit.questions.coverage import Coverage

SYNOPSIS = Synopsis("s6-accessrules coverage", (TOP, JSON), "RULES")


def body(argv: list[bytes]) -> int:
    """Count what a rule set decides."""
    given = SYNOPSIS.read_mixed(argv)
    (rules,) = given.words
    most = given.number("top", MOST_ROWS)
    with progress() as tell:
        contents = load(rules, tell)
        counted = [coverage(contents, family, tell) for family in Family]
    if given.flag("json"):
        say_json({found.family.value: found.json() for found in counted})
    else:
        _tell(counted, count_others(contents), most)
    return 0


def _tell(counted: list[Coverage], others: dict[str, int], most: int) -> None:
    _tell_summary(counted, others)
    if not any(found.rules for found in counted):
        return
    for found in counted:
        _tell_rules(found, most)
    say("")
    _tell_summary(counted, others)


def _tell_summary(counted: list[Coverage], others: dict[str, int]) -> None:
    headings = [heading for found in counted for heading in (found.family.value, "share")]
    table = Table("addresses", *headings, right=range(1, len(headings) + 1))

    def row(what: str) -> list[object]:
        cells: list[object] = [what]
        for found in counted:
            addresses = {"allowed": found.allow, "denied": found.deny, "undecided": found.undecided}[what]
            cells += [addresses, share(addresses, found.family.size)]
        return cells

    table.add(["allowed", "denied", "undecided"], row)
    table.show()
    for name, rules in others.items():
        say(f"{name}: {count(rules, 'rule')}")


def _tell_rules(found: Coverage, most: int) -> None:
    if not found.rules:
        return
    say("")
    table = Table("rule", "decides itself", "share", right=[1, 2], most=most)
    table.add(
        sorted(found.rules.items(), key=lambda rule: -rule[1]),
        lambda rule: (decoded(rule[0]), rule[1], share(rule[1], found.family.size)),
    )
    table.show()
