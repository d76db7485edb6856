"""Policy tests: does a rule set decide as is expected of it, for every address of each prefix?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s6tls.audit import answer
from s6tls.audit.networks import Family, Network, cidrs, joined
from s6tls.audit.progress import Progress, counted, silent
from s6tls.audit.space import Locator, Space

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.answer import Json
    from s6tls.audit.contents import Contents
    from s6tls.audit.expectations import Expectation
    from s6tls.audit.networks import Range

__all__ = ["violations", "Violation"]

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
            "got": answer.decision(self.key, self.rule),
        }

    def lines(self) -> list[str]:
        """Return the violation for people: which expectation, the counterexample, all that fails (shortened)."""
        about = f" ({self.expectation.about})" if self.expectation.about else ""
        # Each range holds a prefix or more, so the first few prefixes are those of the first few ranges.
        first = cidrs(self.network.family, self.ranges[: _FEW + 1])
        more = ", ..." if len(first) > _FEW else ""
        return [
            f"expectation {self.expectation.number}{about} fails: {self.expectation.words()} in {self.network}",
            f"{self.counterexample} gets: {answer.summary(self.rule, self.key)}",
            f"{self.addresses:,} address{'es' if self.addresses > 1 else ''}: {', '.join(first[:_FEW])}{more}",
        ]


class Judge:
    """Judges one expectation after the other, of a rule set in memory."""

    def __init__(self, contents: Contents, *, progress: Progress = silent) -> None:
        self._contents = contents
        self._progress = progress
        self._families: dict[Family, tuple[Space, Locator]] = {}

    def violations(self, expectation: Expectation) -> Iterator[Violation]:
        """Yield a violation for each prefix of an expectation that it fails in; for ``only``, for each family."""
        if expectation.wanted == "only":
            for family in Family:
                inside = sorted(network.range for network in expectation.networks if network.family is family)
                yield from self._judged(expectation, Network(family, 0, 0), _gaps(inside, family.size))
        else:
            for network in expectation.networks:
                yield from self._judged(expectation, network, [network.range])

    def _judged(self, expectation: Expectation, network: Network, ranges: Iterable[Range]) -> Iterator[Violation]:
        """Look for violations in these parts of a network."""
        space, locator = self._of(network.family)
        segments = (segment for start, end in ranges for segment in locator.within(start, end))
        failed = [
            segment
            for segment in counted(segments, f"parts of {network} judged", self._progress)
            if not expectation.met_by(space.rule(segment.owner))
        ]
        if failed:
            owner = failed[0].owner
            failing = tuple(joined((start, end) for start, end, _ in failed))
            yield Violation(expectation, network, failing, space.key(owner), space.rule(owner))

    def _of(self, family: Family) -> tuple[Space, Locator]:
        if family not in self._families:
            space = self._contents.space(family, self._progress)
            self._families[family] = space, Locator(space)
        return self._families[family]


def violations(
    contents: Contents, expectations: Iterable[Expectation], *, progress: Progress = silent
) -> Iterator[Violation]:
    """Yield how a rule set fails these expectations, in their order."""
    judge = Judge(contents, progress=progress)
    for expectation in expectations:
        yield from judge.violations(expectation)


def _gaps(ranges: Iterable[Range], size: int) -> Iterator[Range]:
    """Yield what ranges in the order of their starts, of numbers below `size`, leave out."""
    position = 0
    for start, end in ranges:
        if position < start:
            yield position, start
        position = max(position, end)
    if position < size:
        yield position, size
