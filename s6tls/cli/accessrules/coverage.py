"""s6-accessrules coverage: how many addresses are allowed, denied and undecided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.audit import answer
from s6tls.audit.coverage import count_others, coverage, share
from s6tls.audit.networks import Family
from s6tls.cli.accessrules.common import JSON, Table, load, progress, say, say_json
from s6tls.cli.options import Synopsis, UsageError

if TYPE_CHECKING:
    from s6tls.audit.coverage import Coverage

SYNOPSIS = Synopsis("s6-accessrules coverage", (JSON,), "RULES")

MOST_ROWS = 1000


def body(argv: list[bytes]) -> int:
    """Count what a rule set decides."""
    options, words = SYNOPSIS.parse_mixed(argv)
    if len(words) != 1:
        raise UsageError
    with progress() as told:
        contents = load(words[0], told)
        counted = [coverage(contents, family, told) for family in Family]
    if "json" in dict(options):
        say_json({found.family.value: found.json() for found in counted})
        return 0
    for found in counted:
        _tell(found)
    for name, rules in count_others(contents).items():
        say(f"rules of family {name}: {rules}")
    return 0


def _tell(found: Coverage) -> None:
    size = found.family.size
    table = Table(found.family.value, "addresses", "share", right=[1, 2])
    for word, addresses in (("allow", found.allow), ("deny", found.deny), ("undecided", found.undecided)):
        table.add(word, addresses, share(addresses, size))
    table.show()
    say("")
    most = sorted(found.rules.items(), key=lambda rule: -rule[1])[:MOST_ROWS]
    if most:
        table = Table("rule", "decides itself", "share", right=[1, 2])
        for key, addresses in most:
            table.add(answer.text(key), addresses, share(addresses, size))
        table.show()
        if len(found.rules) > MOST_ROWS:
            say(f"… and {len(found.rules) - MOST_ROWS} more; --json gives all")
        say("")
