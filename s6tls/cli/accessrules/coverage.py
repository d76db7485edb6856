"""s6-accessrules coverage: how many addresses are allowed, denied and undecided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded
from s6tls.audit.core.networks import Family
from s6tls.audit.questions.coverage import count_others, coverage, share
from s6tls.cli.accessrules.common import JSON, Table, count, load, progress, say, say_json
from s6tls.cli.frame.options import Synopsis

if TYPE_CHECKING:
    from s6tls.audit.questions.coverage import Coverage

SYNOPSIS = Synopsis("s6-accessrules coverage", (JSON,), "RULES")


def body(argv: list[bytes]) -> int:
    """Count what a rule set decides."""
    given = SYNOPSIS.read_mixed(argv)
    (rules,) = given.words
    with progress() as tell:
        contents = load(rules, tell)
        counted = [coverage(contents, family, tell) for family in Family]
    if given.flag("json"):
        say_json({found.family.value: found.json() for found in counted})
    else:
        _tell(counted, count_others(contents))
    return 0


def _tell(counted: list[Coverage], others: dict[str, int]) -> None:
    for number, found in enumerate(counted):
        if number:
            say("")
        _tell_family(found)
    if others:
        say("")
    for name, rules in others.items():
        say(f"{name}: {count(rules, 'rule')}")


def _tell_family(found: Coverage) -> None:
    size = found.family.size

    def row(counted: tuple[str | bytes, int]) -> tuple[object, ...]:
        """Return the cells for a word or a rule, and its addresses."""
        what, addresses = counted
        return what if isinstance(what, str) else decoded(what), addresses, share(addresses, size)

    table = Table(found.family.value, "addresses", "share", right=[1, 2])
    table.add([("allowed", found.allow), ("denied", found.deny), ("undecided", found.undecided)], row)
    table.show()
    if found.rules:
        say("")
        table = Table("rule", "decides itself", "share", right=[1, 2])
        table.add(sorted(found.rules.items(), key=lambda rule: -rule[1]), row)
        table.show()
