"""What changed: the clients for whom two rule sets decide differently.

Cut where the deciding rule changes in either set, the addresses of a family fall into pieces with one rule before and
one after.  Pieces with the same two rules make one difference.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING, ClassVar

from s6tls.accessrules.keys import BY_NAME, name_keys
from s6tls.accessrules.text import decoded
from s6tls.audit.core.networks import Family, family_name, prefixes, split_key
from s6tls.audit.core.partition import Partition, merge_intervals
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.core.wording import Decided

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.networks import Range
    from s6tls.audit.core.wording import Json

_FEW = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """Addresses that one rule decides in the old set and another, unequal, one in the new.

    `ranges` are in order and do not touch.
    """

    family: Family
    ranges: list[Range]
    before: Decided
    after: Decided

    @property
    def family_name(self) -> str:
        """The family as JSON has it."""
        return self.family.value

    @property
    def addresses(self) -> int:
        """How many addresses there are."""
        return sum(end - start for start, end in self.ranges)

    @property
    def witness(self) -> str:
        """One of the addresses: the first."""
        return self.family.text(self.ranges[0][0])

    @property
    def prefixes(self) -> list[str]:
        """The fewest networks that hold these addresses and no others, in order."""
        return list(self.each_prefix())

    def each_prefix(self) -> Iterator[str]:
        """Yield the `prefixes`, which may be too many to be kept: a range of IPv6 has up to 254."""
        bits = self.family.bits
        for start, end in self.ranges:
            for number, free in prefixes(start, end):
                yield self.family.cidr(number, bits - free)

    def count_prefixes(self) -> int:
        """Return how many `prefixes` there are, without making them.

        In each range one number is aligned best.  Up to it networks become wider, behind it narrower, and no width
        comes twice on one side; so there is one for each bit of the distance.
        """
        count = 0
        for start, end in self.ranges:
            free = (start ^ end).bit_length() - 1
            middle = end >> free << free
            count += (middle - start).bit_count() + (end - middle).bit_count()
        return count

    def first_prefixes(self) -> str:
        """Return a few of the `prefixes`, for people, and how many more there are."""
        words = " ".join(islice(self.each_prefix(), _FEW))
        more = self.count_prefixes() - _FEW
        return f"{words} … and {more:,} more" if more > 0 else words

    def json(self) -> Json:
        """Return the difference as JSON has it."""
        return {"family": self.family_name, "prefixes": self.prefixes, **self.details()}

    def details(self) -> Json:
        """Return what JSON has but for the family and the prefixes."""
        return _details(self.addresses, self.before, self.after)


@dataclass(frozen=True, slots=True)
class OtherDifference:
    """A rule of another family whose decision differs: one by host name, by uid or gid, or of an unknown family.

    A rule by host name stands for its name and the names below it, but for those that another rule decides.
    """

    key: bytes
    before: Decided
    after: Decided

    addresses: ClassVar[None] = None

    @property
    def family_name(self) -> str:
        """What stands before the slash in the key."""
        return decoded(family_name(self.key))

    def each_prefix(self) -> Iterator[str]:
        """Yield what stands in the place of prefixes: the name of the rule."""
        yield decoded(split_key(self.key)[1])

    def json(self) -> Json:
        """Return the difference in the shape of those of addresses, which nobody can count here."""
        return {"family": self.family_name, "prefixes": list(self.each_prefix()), **self.details()}

    def details(self) -> Json:
        """Return what JSON has but for the family and the prefixes."""
        return _details(None, self.before, self.after)


def _details(addresses: int | None, before: Decided, after: Decided) -> Json:
    return {"addresses": addresses, "before": before.json(), "after": after.json()}


def differences(
    old: LoadedRules, new: LoadedRules, families: Iterable[Family] = Family, progress: Progress = silent
) -> list[Difference]:
    """Return where the decisions about addresses differ, by family, in the order of the first address of each."""
    return [found for family in families for found in _between(family, old, new, progress)]


def _between(family: Family, old: LoadedRules, new: LoadedRules, progress: Progress) -> Iterator[Difference]:
    before = old.partition(family, progress)
    after = new.partition(family, progress)
    numbers: dict[Rule | None, int] = {}
    decision_before = _numbered(before, numbers)
    decision_after = _numbered(after, numbers)
    found: dict[tuple[int, int], list[Range]] = {}
    pieces = merge_intervals(before.intervals(), after.intervals())
    for start, end, was, is_ in counted(pieces, f"{family.value} ranges compared", progress):
        if decision_before[was] != decision_after[is_]:
            found.setdefault((was, is_), []).append((start, end))
    for (was, is_), ranges in found.items():
        yield Difference(
            family,
            ranges,
            Decided(before.key(was), before.rule(was)),
            Decided(after.key(is_), after.rule(is_)),
        )


def _numbered(partition: Partition, numbers: dict[Rule | None, int]) -> list[int]:
    """Return for each rule, and last for NO_RULE, a number that is the same for equal decisions: quick to compare."""
    return [numbers.setdefault(rule, len(numbers)) for rule in (*partition.rules, None)]


def other_differences(old: LoadedRules, new: LoadedRules) -> list[OtherDifference]:
    """Return where the other families differ, in the order of the keys.

    Rules by host name are compared by what is decided about their names, so that a rule which changes nothing is no
    difference.  All others are compared one by one.
    """
    keys = sorted(key for key in {*old.rules, *new.rules} if split_key(key)[0] is None)
    found = []
    for key in keys:
        probes = _name_probes(key) if key.startswith(BY_NAME) else [key]
        before, after = _decided(old, probes), _decided(new, probes)
        if before.rule != after.rule:
            found.append(OtherDifference(key, before, after))
    return found


def _name_probes(key: bytes) -> list[bytes]:
    """Return the keys that decide about the name of a rule; none if no host name can lead to it.

    Any host name whose first hit, in either set, is `key` goes on with these.  So two sets which agree about the names
    of all rules agree about all names.
    """
    name = key.removeprefix(BY_NAME)
    probes = list(name_keys(name + b"."))  # of two final dots, one is part of the name
    return probes if probes[0] == key else []


def _decided(loaded: LoadedRules, probes: list[bytes]) -> Decided:
    for key in probes:
        rule = loaded.rules.get(key)
        if rule is not None:
            return Decided(key, rule)
    return Decided(None, None)


class Clients:
    """The clients of logs, to be counted by address."""

    def __init__(self) -> None:
        self._hits: dict[Family, dict[int, int]] = {family: {} for family in Family}
        self._sorted: dict[Family, tuple[list[int], list[int]]] = {}

    def add(self, hits: Iterable[tuple[bytes, int]]) -> None:
        """Take in addresses, packed, and how many lines have them; an address may come more than once."""
        for packed, lines in hits:
            known = self._hits[Family.of(packed)]
            number = int.from_bytes(packed, "big")
            known[number] = known.get(number, 0) + lines
        self._sorted.clear()

    def numbers(self, family: Family) -> list[int]:
        """Return the addresses of a family's clients in order, each once."""
        return self._in_order(family)[0]

    def within(self, difference: Difference) -> tuple[int, int]:
        """Return how many clients a difference touches, and how many lines they have."""
        return self.count(difference.family, difference.ranges)

    def count(self, family: Family, ranges: Iterable[Range]) -> tuple[int, int]:
        """Return how many clients these ranges have, and how many lines those have."""
        numbers, sums = self._in_order(family)
        clients = hits = 0
        for start, end in ranges:
            first, last = bisect_left(numbers, start), bisect_left(numbers, end)
            clients += last - first
            hits += sums[last] - sums[first]
        return clients, hits

    def _in_order(self, family: Family) -> tuple[list[int], list[int]]:
        """Return the clients in order, and, at each place, how many lines those before it have."""
        if family not in self._sorted:
            known = self._hits[family]
            numbers = sorted(known)
            self._sorted[family] = numbers, list(accumulate(map(known.__getitem__, numbers), initial=0))
        return self._sorted[family]
