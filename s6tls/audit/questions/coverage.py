"""How many addresses a rule set allows, denies and leaves undecided, and how many each rule decides itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded
from s6tls.audit.core.networks import Family, family_name, split_key
from s6tls.audit.core.progress import Progress, silent

if TYPE_CHECKING:
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.wording import Json


@dataclass(frozen=True)
class Coverage:
    """The addresses of a family, counted by what is decided about them.

    `allow`, `deny` and `undecided` come to all that there are.  `rules` has, by the keys, how many addresses each rule
    decides itself: 0 if more specific rules decide all of them, or if its name is one that no lookup asks for.
    """

    family: Family
    allow: int
    deny: int
    undecided: int
    rules: dict[bytes, int]

    def json(self) -> Json:
        """Return the counts as JSON has them."""
        return {
            "allow": self.allow,
            "deny": self.deny,
            "undecided": self.undecided,
            "rules": {decoded(key): addresses for key, addresses in self.rules.items()},
        }


def coverage(loaded: LoadedRules, family: Family, progress: Progress = silent) -> Coverage:
    """Count the addresses of a family; rules come in the order of their networks, those that cannot match last."""
    partition = loaded.partition(family, progress)
    decided = partition.decided()
    undecided = decided.pop()
    allow = sum(addresses for rule, addresses in zip(partition.rules, decided, strict=True) if rule.allow)
    rules = dict(zip(partition.keys, decided, strict=True))
    for key in loaded.rules:
        if key.startswith(family.prefix):
            rules.setdefault(key, 0)
    return Coverage(family, allow, family.size - allow - undecided, undecided, rules)


def count_others(loaded: LoadedRules) -> dict[str, int]:
    """Return how many rules there are of each family that has no addresses, by the names of the families."""
    counts: dict[str, int] = {}
    for key in loaded.rules:
        if split_key(key)[0] is None:
            family = decoded(family_name(key))
            counts[family] = counts.get(family, 0) + 1
    return dict(sorted(counts.items()))


def share(part: int, whole: int) -> str:
    """Return a part in percent: 0 % and 100 % are only what is exactly that."""
    hundredths = (20000 * part + whole) // (2 * whole)
    if hundredths == 0 and part:
        return "<0.01 %"
    if hundredths == 10000 and part < whole:
        return ">99.99 %"
    return f"{hundredths // 100} %" if hundredths in (0, 10000) else f"{hundredths // 100}.{hundredths % 100:02} %"
