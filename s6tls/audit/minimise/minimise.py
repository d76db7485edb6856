"""The smallest rule set that decides as a given one does, and the proof that it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, split_key
from s6tls.audit.core.partition import Partition
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.minimise import ortc
from s6tls.audit.minimise.lossy import NO_BUDGET, aggregate
from s6tls.audit.minimise.trie import Prefix
from s6tls.audit.questions.diff import differences, other_differences

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.wording import Json
    from s6tls.audit.minimise.lossy import Budget
    from s6tls.audit.questions.diff import Difference


class Unproven(Exception):
    """A smaller rule set decides otherwise than it may.  This would be a mistake in this program, or a broken disk."""


@dataclass(frozen=True)
class Minimised:
    """A smaller rule set, `loaded`, and how many rules there were before and are now.

    `rules` has both numbers for each family of addresses.  `dead` counts address rules that no lookup can match; they
    are left out.  Rules of other families, of which there are `others`, stay as they are.
    """

    loaded: LoadedRules
    rules: dict[Family, tuple[int, int]]
    dead: int
    others: int

    @property
    def before(self) -> int:
        """How many rules there were, dead ones and other families included."""
        return sum(before for before, _ in self.rules.values()) + self.others

    @property
    def after(self) -> int:
        """How many rules there are now, other families included."""
        return sum(after for _, after in self.rules.values()) + self.others

    def json(self, changed: list[Difference]) -> Json:
        """Return what was done as JSON has it; `changed` are the differences that `proof` found."""
        return {
            "before": self.before,
            "after": self.after,
            "families": {
                family.value: {"before": before, "after": after} for family, (before, after) in self.rules.items()
            },
            "changed": [difference.json() for difference in changed],
            "addresses": sum(difference.addresses for difference in changed),
        }


def minimise(loaded: LoadedRules, budget: Budget = NO_BUDGET, *, progress: Progress = silent) -> Minimised:
    """Return the fewest rules by address that decide as those of `loaded`, and all other rules.

    With a budget, decisions may change as it says, and then there may be fewer rules still.
    """
    others = {key: rule for key, rule in loaded.rules.items() if split_key(key)[0] is None}
    kept: dict[bytes, Rule] = {}
    counts: dict[Family, tuple[int, int]] = {}
    addressed = dead = 0
    spent = 0
    for family in Family:
        partition = loaded.partition(family, progress)
        outcomes = _in_order(partition.rules)
        bits = family.bits
        found = ortc.fewest(_numbered(partition, outcomes), bits, progress=progress)
        if budget.addresses > spent:
            found, changed = aggregate(found, family, budget.less(spent), progress=progress)
            spent += changed
        before = sum(key.startswith(family.prefix) for key in loaded.rules)
        dead += before - len(partition)
        addressed += before
        counts[family] = before, len(found)
        for number, length, outcome in found:
            kept[family.key(number, length)] = outcomes[outcome]
    return Minimised(LoadedRules({**kept, **others}, loaded.is_tree), counts, dead, len(others))


def _in_order(rules: list[Rule]) -> list[Rule]:
    """Return the different ones among rules in an order of their own, deny first, and those that do least."""

    def rank(rule: Rule) -> tuple[object, ...]:
        return rule.allow, rule.exec, [(name, value is not None, value or b"") for name, value in rule.env]

    return sorted(set({id(rule): rule for rule in rules}.values()), key=rank)


def _numbered(partition: Partition, outcomes: list[Rule]) -> Iterable[Prefix]:
    numbers = {rule: number for number, rule in enumerate(outcomes)}
    by_identity = {id(rule): numbers[rule] for rule in {id(rule): rule for rule in partition.rules}.values()}
    return map(Prefix, partition.numbers, partition.lengths, [by_identity[id(rule)] for rule in partition.rules])


def proof(
    old: LoadedRules, new: LoadedRules, budget: Budget = NO_BUDGET, *, progress: Progress = silent
) -> list[Difference]:
    """Compare a rule set with the one made of it, and return what has changed: without a budget, nothing.

    Raises Unproven if anything changed that may not.
    """
    changed = differences(old, new, progress=progress)
    if other_differences(old, new):
        raise Unproven("a rule of another family changed")
    total = sum(difference.addresses for difference in changed)
    if total > budget.addresses:
        raise Unproven(f"addresses that are decided differently: {total:,}")
    for difference in changed:
        if difference.after.rule is None:
            raise Unproven(f"{difference.witness} is no longer decided")
        if budget.protects(difference.family, difference.ranges):
            raise Unproven("protected addresses are decided differently")
    return changed
