"""Narrower rules than there are, which decide as before for every client seen.

Each allow rule that decided a client gives way to the narrowest networks that hold the clients it decided, each within
its own network; allow rules that decided nobody go.  Deny rules and rules of other families stay.  Then whoever
was not allowed is not allowed now, for no network is wider than the rule it stands for, and what was more specific
than that rule is more specific still.  But one thing is to be seen to: where an allow rule within another went or gave
way to less, addresses would fall to the outer one, which may give them another environment.  A deny rule with the old
rule's network keeps them from it; it is called a *guard* here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from s6tls.accessrules.rule import DENY
from s6tls.accessrules.text import decoded
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, Network, joined, prefixes, split_key
from s6tls.audit.core.partition import NO_RULE
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.formats import text
from s6tls.audit.formats.entries import Entry, Provenance
from s6tls.audit.minimise.minimise import Unproven
from s6tls.audit.questions.diff import differences, other_differences
from s6tls.audit.suggest.forest import Grove, Limit, chosen
from s6tls.audit.suggest.notes import clients_seen

if TYPE_CHECKING:
    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.networks import Range
    from s6tls.audit.core.partition import Partition
    from s6tls.audit.core.wording import Json
    from s6tls.audit.questions.diff import Clients


@dataclass(frozen=True)
class Tight:
    """A rule of a tightened set: how many clients it decides, and how many lines those have.

    `was` is the key of the rule that it stands for, None if there was none: a guard.  Of rules that logs cannot tell
    about, `clients` and `hits` are None.
    """

    key: bytes
    rule: Rule
    was: bytes | None
    clients: int | None = None
    hits: int | None = None

    def entry(self) -> Entry:
        """Return the rule with what is known about it."""
        return Entry(self.key, self.rule, Provenance(note=self._note()))

    def _note(self) -> str:
        if self.was is None:
            return "was allowed by a rule that went or became narrower; a wider one would decide"
        if self.clients is None or self.hits is None:
            return ""
        seen = clients_seen(self.clients, self.hits) if self.clients else "never used"
        return seen if self.was == self.key else f"{seen}; was {decoded(self.was)}"

    def json(self) -> Json:
        """Return the rule as JSON has it."""
        decided = wording.decision_json(self.key, self.rule)
        return {
            "key": decided.pop("rule"),
            **decided,
            "was": None if self.was is None else decoded(self.was),
            "clients": self.clients,
            "hits": self.hits,
        }


@dataclass(frozen=True)
class Tightened:
    """A tightened rule set, and the allow rules of the old one that decided nobody: they are `gone`."""

    rules: list[Tight]
    gone: list[tuple[bytes, Rule]] = field(default_factory=list)

    @property
    def loaded(self) -> LoadedRules:
        """The rules as a rule set."""
        return LoadedRules.of((tight.key, tight.rule) for tight in self.rules)

    @property
    def unused(self) -> list[bytes]:
        """The keys of all rules that decided nobody: those that are gone, and deny rules that stay."""
        stay = [tight.key for tight in self.rules if tight.clients == 0 and tight.was is not None]
        return [key for key, _ in self.gone] + stay

    def write(self) -> str:
        """Return the rules in text form, those that are gone as comments behind them."""
        left_out = text.write(Entry(key, rule) for key, rule in self.gone).splitlines()
        return text.write([tight.entry() for tight in self.rules], [f"never used: {line}" for line in left_out])


def tighten(loaded: LoadedRules, clients: Clients, rules: int = 1, *, progress: Progress = silent) -> Tightened:
    """Return narrower rules for these clients: at most so many, and the narrowest, for each allow rule."""
    made: dict[bytes | None, list[Tight]] = {}
    for family in Family:
        for tight in _of_family(loaded, family, clients, rules, progress):
            made.setdefault(tight.was, []).append(tight)
    found: list[Tight] = []
    gone: list[tuple[bytes, Rule]] = []
    for key, rule in loaded.rules.items():
        if key in made:
            found += made[key]
        elif rule.allow and split_key(key)[0] is not None:
            gone.append((key, rule))
        else:
            found.append(Tight(key, rule, key))
    return Tightened(_guarded(found, loaded), gone)


def _of_family(loaded: LoadedRules, family: Family, clients: Clients, rules: int, progress: Progress) -> list[Tight]:
    """Return what stands for the rules that decided clients, and for the deny rules that can match."""
    partition = loaded.partition(family, progress)
    decided: dict[int, list[int]] = {}
    index = loaded.interval_index(family, progress)
    for number in counted(clients.numbers(family), "clients judged", progress):
        decided.setdefault(index.rule_at(number), []).append(number)
    own = _own_ranges(partition, {rule for rule in decided if rule != NO_RULE and partition.rules[rule].allow})
    found = []
    for at, (key, rule) in enumerate(zip(partition.keys, partition.rules, strict=True)):
        numbers = decided.get(at, [])
        if rule.allow and numbers:
            for network in _narrowest(family, numbers, own[at], rules):
                first, last = (bisect_left(numbers, end) for end in network.range)
                seen = clients.count(family, _singles(numbers[first:last]))
                found.append(Tight(family.key(*network[1:]), rule, key, *seen))
        elif not rule.allow:
            found.append(Tight(key, rule, key, *clients.count(family, _singles(numbers))))
    return found


def _singles(numbers: list[int]) -> list[Range]:
    return [(number, number + 1) for number in numbers]


def _own_ranges(partition: Partition, wanted: set[int]) -> dict[int, list[Range]]:
    """Return the addresses that some of the rules decide themselves."""
    found: dict[int, list[Range]] = {index: [] for index in wanted}
    for start, end, index in partition.intervals():
        if index in wanted:
            found[index].append((start, end))
    return found


def _narrowest(family: Family, numbers: list[int], own: list[Range], rules: int) -> list[Network]:
    """Return the networks that hold these addresses and let in the fewest of the rule's own."""
    ends = [end for _, end in own]
    before = list(accumulate((end - start for start, end in own), initial=0))

    def up_to(number: int) -> int:
        """Count the rule's own addresses before one."""
        at = bisect_right(ends, number)
        return before[at] + (max(0, number - own[at][0]) if at < len(own) else 0)

    def weigh(number: int, free: int) -> int:
        return up_to(number + (1 << free)) - up_to(number)

    leaves = [leaf for start, end in joined(_singles(numbers)) for leaf in prefixes(start, end)]
    return chosen([Grove(family, leaves, weigh)], Limit(rules=rules)).networks


def _guarded(rules: list[Tight], old: LoadedRules) -> list[Tight]:
    """Add guards, where a wider rule would let in otherwise who was let in by a rule that is no more."""
    new = {tight.key: tight.rule for tight in rules}
    guards = []
    for family in Family:
        partition = old.partition(family)
        for number, length, key, rule in zip(
            partition.numbers, partition.lengths, partition.keys, partition.rules, strict=True
        ):
            if not rule.allow or key in new:
                continue
            outer = _around(new, family, number, length)
            if outer is not None and outer.allow and outer != rule:
                new[key] = DENY
                guards.append(Tight(key, DENY, None))
    return rules + guards


def _around(rules: dict[bytes, Rule], family: Family, number: int, length: int) -> Rule | None:
    """Return the rule that decides a network as a whole, if there is one."""
    for shorter in range(length, -1, -1):
        free = family.bits - shorter
        rule = rules.get(family.key(number >> free << free, shorter))
        if rule is not None:
            return rule
    return None


def prove_tightened(
    old: LoadedRules, new: Tightened, clients: Clients, *, progress: Progress = silent
) -> dict[Family, int]:
    """Check each client and each address, and return how many addresses of each family are allowed no longer.

    Raises Unproven: a client is decided otherwise than before, or another address is, and not just refused.
    """
    loaded = new.loaded
    lost = dict.fromkeys(Family, 0)
    if other_differences(old, loaded):
        raise Unproven("a rule of another family changed")
    for difference in differences(old, loaded, progress=progress):
        before, after = difference.before.rule, difference.after.rule
        if before is None or not before.allow or (after is not None and after.allow):
            raise Unproven(f"{difference.witness} is decided otherwise")
        if clients.within(difference)[0]:
            raise Unproven(f"a client is refused that {decoded(difference.before.key or b'')} allows")
        lost[difference.family] += difference.addresses
    return lost
