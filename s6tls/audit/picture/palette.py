"""In what colours maps show decisions.

The colours are those of M. Okabe and K. Ito, "Color Universal Design" (2008), which colour-blind people can tell apart,
with paler ones for what matters less.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.text import shown
from s6tls.audit.core.networks import split_key
from s6tls.audit.core.partition import NO_RULE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.partition import Partition

    Setting = tuple[tuple[bytes, bytes], ...]

_BLUE, _ORANGE, _GREEN, _VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
_PURPLE, _SKY, _YELLOW = "#cc79a7", "#56b4e9", "#f0e442"
_PALE_BLUE, _PALE_ORANGE, _PALE_YELLOW = "#cfe3f0", "#f6dfb5", "#f8f4c0"
_BLACK, _GREY, _PALE_GREY = "#4d4d4d", "#999999", "#e6e6e6"
_CYCLE = (_BLUE, _GREEN, _VERMILION, _PURPLE, _SKY, _ORANGE)
_PALE_CYCLE = (_PALE_BLUE, "#cdeadf", "#f5d9c6", "#f2deea", "#dff0fb", _PALE_ORANGE)


class Swatch(NamedTuple):
    """A colour (``#rrggbb``) and what it stands for.

    Of several outcomes in one place, the highest `rank` says in which colour of several outcomes the place is shown.
    """

    colour: str
    label: str
    rank: int = 0


class Shade(NamedTuple):
    """How a decision is shown: the index of a swatch, and a number that only equal outcomes share."""

    swatch: int
    outcome: int


@dataclass(frozen=True)
class Colouring:
    """A way to colour decisions.

    `mixed` are, by rank, the indexes of the swatches for places with several outcomes.  `shade` is given the index of
    the rule in its partition, or NO_RULE, and the rule.
    """

    swatches: tuple[Swatch, ...]
    mixed: tuple[int, ...]
    shade: Callable[[int, Rule | None], Shade]

    def shades(self, partition: Partition) -> list[Shade]:
        """Return the shade of each rule's decision, and last of that of NO_RULE."""
        return [*(self.shade(index, rule) for index, rule in enumerate(partition.rules)), self.shade(NO_RULE, None)]


class _ByVerdict(enum.IntEnum):
    """The swatches of `by_verdict`, in their order."""

    ALLOWED = 0
    DENIED = 1
    UNDECIDED = 2
    SOME_ALLOWED = 3
    NONE_ALLOWED = 4


def by_verdict(_: LoadedRules) -> Colouring:
    """Colour by who gets in."""
    swatches = (
        Swatch(_BLUE, "allowed", 1),
        Swatch(_ORANGE, "denied"),
        Swatch(_PALE_GREY, "undecided"),
        Swatch(_SKY, "several in one place, some allowed"),
        Swatch(_YELLOW, "several in one place, none allowed"),
    )

    def shade(_: int, rule: Rule | None) -> Shade:
        if rule is None:
            swatch = _ByVerdict.UNDECIDED
        else:
            swatch = _ByVerdict.ALLOWED if rule.allow else _ByVerdict.DENIED
        return Shade(swatch, swatch)

    return Colouring(swatches, (_ByVerdict.NONE_ALLOWED, _ByVerdict.SOME_ALLOWED), shade)


def by_certificate(loaded: LoadedRules) -> Colouring:
    """Colour by the certificate that a client gets: what rules set CERTFILE and CERTFILE:NAME to."""
    return _by_setting(loaded, "certificate", lambda name: name.partition(b":")[0] == b"CERTFILE")


def by_user(loaded: LoadedRules) -> Colouring:
    """Colour by the user that a client's program runs as: what rules set UID and GID to."""
    return _by_setting(loaded, "user", lambda name: name in (b"UID", b"GID"))


class _BySetting(enum.IntEnum):
    """The swatches of `_by_setting` behind those of the settings that most rules make, in their order."""

    OTHERS = 0
    UNSET = 1
    DENIED = 2
    UNDECIDED = 3
    NONE_ALLOWED = 4
    SOME_ALLOWED = 5


def _by_setting(loaded: LoadedRules, noun: str, concerns: Callable[[bytes], bool]) -> Colouring:
    """Colour by what rules set some variables to, the settings that most rules make each in a colour of its own."""

    def setting(rule: Rule) -> Setting:
        return tuple((name, value) for name, value in rule.env if value is not None and concerns(name))

    settings = {rule: setting(rule) for rule in set(loaded.rules.values()) if rule.allow}
    counts = Counter(settings[rule] for key, rule in loaded.rules.items() if rule.allow and split_key(key)[0])
    del counts[()]
    ranked = sorted(counts, key=lambda found: (-counts[found], found))
    named = [Swatch(colour, _described(made), 1) for colour, made in zip(_CYCLE, ranked, strict=False)]
    swatches = (
        *named,
        Swatch(_GREY, f"other {noun}s ({len(ranked) - len(named)})", 1),
        Swatch(_BLACK, f"allowed, no {noun} set", 1),
        Swatch(_PALE_ORANGE, "denied"),
        Swatch(_PALE_GREY, "undecided"),
        Swatch(_PALE_YELLOW, "several in one place, none allowed"),
        Swatch(_YELLOW, "several in one place, some allowed"),
    )
    numbers = {made: number for number, made in enumerate(ranked)}

    def without_setting(swatch: _BySetting) -> Shade:
        return Shade(len(named) + swatch, -1 - swatch)

    def shade(_: int, rule: Rule | None) -> Shade:
        if rule is None:
            return without_setting(_BySetting.UNDECIDED)
        if not rule.allow:
            return without_setting(_BySetting.DENIED)
        made = settings[rule]
        if not made:
            return without_setting(_BySetting.UNSET)
        return Shade(min(numbers[made], len(named) + _BySetting.OTHERS), numbers[made])

    return Colouring(swatches, (len(named) + _BySetting.NONE_ALLOWED, len(named) + _BySetting.SOME_ALLOWED), shade)


def _described(setting: Setting) -> str:
    return " ".join(f"{shown(name)}={shown(value)}" for name, value in setting)


class _ByRule(enum.IntEnum):
    """The swatches of `by_rule`; from the first two on, as many as there are colours to take in turn."""

    ALLOWED = 0
    DENIED = len(_CYCLE)
    UNDECIDED = 2 * len(_CYCLE)
    NONE_ALLOWED = UNDECIDED + 1
    SOME_ALLOWED = UNDECIDED + 2


def by_rule(_: LoadedRules) -> Colouring:
    """Colour by the rule that decides: neighbours mostly differ, for colours are taken in turn."""
    swatches = (
        *(Swatch(colour, "rules that allow, in turn", 1) for colour in _CYCLE),
        *(Swatch(colour, "rules that deny, in turn") for colour in _PALE_CYCLE),
        Swatch(_PALE_GREY, "undecided"),
        Swatch(_PALE_YELLOW, "several in one place, none allowed"),
        Swatch(_YELLOW, "several in one place, some allowed"),
    )

    def shade(index: int, rule: Rule | None) -> Shade:
        if rule is None:
            return Shade(_ByRule.UNDECIDED, NO_RULE)
        return Shade((_ByRule.ALLOWED if rule.allow else _ByRule.DENIED) + index % len(_CYCLE), index)

    return Colouring(swatches, (_ByRule.NONE_ALLOWED, _ByRule.SOME_ALLOWED), shade)


COLOURINGS = {"verdict": by_verdict, "certificate": by_certificate, "user": by_user, "rule": by_rule}

CHANGES = (
    Swatch(_BLUE, "newly allowed", 2),
    Swatch(_VERMILION, "newly denied", 1),
    Swatch(_BLACK, "newly undecided", 1),
    Swatch(_PURPLE, "allowed, but other env or exec", 1),
    Swatch(_PALE_BLUE, "allowed as before"),
    Swatch(_PALE_ORANGE, "denied as before"),
    Swatch(_PALE_GREY, "undecided as before"),
    Swatch(_SKY, "several in one place, some newly allowed"),
    Swatch(_YELLOW, "several in one place, some changed"),
    Swatch("#efece6", "several in one place, none changed"),
)
"""What a map of two rule sets shows."""


class Change(enum.IntEnum):
    """The swatches of `CHANGES`, in their order."""

    NEWLY_ALLOWED = 0
    NEWLY_DENIED = 1
    NEWLY_UNDECIDED = 2
    OTHER_EFFECTS = 3
    STILL_ALLOWED = 4
    STILL_DENIED = 5
    STILL_UNDECIDED = 6
    SOME_NEWLY_ALLOWED = 7
    SOME_CHANGED = 8
    NONE_CHANGED = 9


CHANGES_MIXED = (Change.NONE_CHANGED, Change.SOME_CHANGED, Change.SOME_NEWLY_ALLOWED)
"""By rank, the swatches of `CHANGES` that stand for several outcomes."""


def change(before: Rule | None, after: Rule | None) -> Shade:
    """Return how a map of two rule sets shows what becomes of a decision."""
    swatch = _what_becomes(before, after)
    return Shade(swatch, swatch)


def _what_becomes(before: Rule | None, after: Rule | None) -> Change:
    if after is None:
        return Change.STILL_UNDECIDED if before is None else Change.NEWLY_UNDECIDED
    if not after.allow:
        return Change.STILL_DENIED if before == after else Change.NEWLY_DENIED
    if before == after:
        return Change.STILL_ALLOWED
    return Change.OTHER_EFFECTS if before is not None and before.allow else Change.NEWLY_ALLOWED


def legend(swatches: Iterable[Swatch]) -> dict[str, list[int]]:
    """Return the indexes of the swatches by what they stand for."""
    found: dict[str, list[int]] = {}
    for index, swatch in enumerate(swatches):
        found.setdefault(swatch.label, []).append(index)
    return found
