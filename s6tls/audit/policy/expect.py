"""Policy tests: does a rule set decide as is expected of it, for every address of each prefix?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s6tls.audit.core import wording
from s6tls.audit.core.networks import Family, Network, cidrs, joined
from s6tls.audit.core.progress import Progress, counted, silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.networks import Range
    from s6tls.audit.core.wording import Json
    from s6tls.audit.policy.expectations import Expectation


_FEW = 4


@dataclass(frozen=True)
class Violation:
    """Addresses for which an expectation fails.

    They lie in `network`: one prefix of the expectation, or for ``only`` all of a family.  `ranges` are all that fail
    there, in order, joined where they touch.  `key` and `rule` are what decides the first of them.
    """

    expectation: Expectation
    network: Network
    ranges: tuple[Range, ...]
    key: bytes | None
    rule: Rule | None

    @property
    def counterexample(self) -> str:
        """The lowest address that fails."""
        return self.network.family.text(self.ranges[0][0])

    @property
    def addresses(self) -> int:
        """How many addresses fail."""
        return sum(end - start for start, end in self.ranges)

    @property
    def prefixes(self) -> list[str]:
        """The fewest prefixes that hold the addresses that fail, and no others."""
        return cidrs(self.network.family, self.ranges)

    def json(self) -> Json:
        """Return the violation as JSON has it."""
        return {
            "expectation": self.expectation.number,
            "about": self.expectation.about,
            "prefix": str(self.network),
            "wanted": self.expectation.wanted,
            "counterexample": self.counterexample,
            "addresses": self.addresses,
            "prefixes": self.prefixes,
            "got": wording.decision_json(self.key, self.rule),
        }

    def lines(self) -> list[str]:
        """Return the violation for people: which expectation, the counterexample, all that fails (shortened)."""
        about = f" ({self.expectation.about})" if self.expectation.about else ""
        # Each range holds a prefix or more, so the first few prefixes are those of the first few ranges.
        first = cidrs(self.network.family, self.ranges[: _FEW + 1])
        more = ", ..." if len(first) > _FEW else ""
        return [
            f"expectation {self.expectation.number}{about} fails: {self.expectation.words()} in {self.network}",
            f"{self.counterexample} gets: {wording.summary(self.rule, self.key)}",
            f"{self.addresses:,} address{'es' if self.addresses > 1 else ''}: {', '.join(first[:_FEW])}{more}",
        ]


def violations(
    loaded: LoadedRules, expectations: Iterable[Expectation], *, progress: Progress = silent
) -> Iterator[Violation]:
    """Yield how a rule set fails these expectations, in their order."""
    for expectation in expectations:
        yield from violations_of(expectation, loaded, progress=progress)


def violations_of(expectation: Expectation, loaded: LoadedRules, *, progress: Progress = silent) -> Iterator[Violation]:
    """Yield a violation for each prefix of an expectation that it fails in; for ``only``, for each family."""
    if expectation.wanted == "only":
        for family in Family:
            inside = sorted(network.range for network in expectation.networks if network.family is family)
            yield from _within(Network(family, 0, 0), _gaps(inside, family.size), expectation, loaded, progress)
    else:
        for network in expectation.networks:
            yield from _within(network, [network.range], expectation, loaded, progress)


def _within(
    network: Network, ranges: Iterable[Range], expectation: Expectation, loaded: LoadedRules, progress: Progress
) -> Iterator[Violation]:
    """Look for violations in these parts of a network."""
    partition = loaded.partition(network.family, progress)
    index = loaded.interval_index(network.family, progress)
    intervals = (interval for start, end in ranges for interval in index.within(start, end))
    failed = [
        interval
        for interval in counted(intervals, f"parts of {network} judged", progress)
        if not expectation.met_by(partition.rule(interval.rule))
    ]
    if failed:
        rule = failed[0].rule
        failing = tuple(joined((start, end) for start, end, _ in failed))
        yield Violation(expectation, network, failing, partition.key(rule), partition.rule(rule))


def _gaps(ranges: Iterable[Range], size: int) -> Iterator[Range]:
    """Yield what ranges in the order of their starts, of numbers below `size`, leave out."""
    position = 0
    for start, end in ranges:
        if position < start:
            yield position, start
        position = max(position, end)
    if position < size:
        yield position, size
