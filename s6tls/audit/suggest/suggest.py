"""The narrowest allow rules that cover the clients of logs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import takewhile
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.rule import ALLOW
from s6tls.accessrules.text import decoded
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, Network, joined, prefixes
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.formats.entries import Entry, Provenance
from s6tls.audit.minimise.minimise import Unproven
from s6tls.audit.questions.diff import differences
from s6tls.audit.suggest.cover import TooFew
from s6tls.audit.suggest.forest import EXACTLY, Grove, Limit, chosen
from s6tls.audit.suggest.known import NOTHING_KNOWN
from s6tls.audit.suggest.notes import clients_seen, joined_notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.networks import Range
    from s6tls.audit.core.wording import Json
    from s6tls.audit.questions.diff import Clients
    from s6tls.audit.suggest.known import Known


@dataclass(frozen=True)
class Proposal:
    """A rule that is suggested: how many clients it has, how many lines those have, and what is known of its place.

    `beyond` are the addresses that it lets in, and that are no client's.
    """

    network: Network
    rule: Rule
    clients: int
    hits: int
    known: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """The key of the rule."""
        return self.network.family.key(*self.network[1:])

    @property
    def addresses(self) -> int:
        """How many addresses it lets in."""
        start, end = self.network.range
        return end - start

    @property
    def beyond(self) -> int:
        """How many of them are no client's."""
        return self.addresses - self.clients

    def entry(self) -> Entry:
        """Return the rule with what is known about it."""
        beyond = f"{self.beyond:,} beyond" if self.beyond else "none beyond"
        note = f"{clients_seen(self.clients, self.hits)}; {beyond}"
        return Entry(self.key, self.rule, Provenance(note=joined_notes(note, self.known)))

    def json(self) -> Json:
        """Return the proposal as JSON has it."""
        decided = wording.decision_json(self.key, self.rule)
        return {
            "key": decided.pop("rule"),
            **decided,
            "clients": self.clients,
            "hits": self.hits,
            "addresses": self.addresses,
            "beyond": self.beyond,
            "known": list(self.known),
        }


@dataclass(frozen=True)
class Suggestion:
    """Rules that cover clients, and the clients that the rules given do not allow: how many, and how many lines.

    `excess` tells how far it may be from the best, by family or for both (None): in addresses if the number of rules
    is limited, else in rules.  No entry: it is the best.
    """

    proposals: list[Proposal]
    outside: tuple[int, int]
    excess: dict[Family | None, int]

    @property
    def loaded(self) -> LoadedRules:
        """The rules as a rule set."""
        return LoadedRules.of((proposal.key, proposal.rule) for proposal in self.proposals)

    def sum(self, what: str, family: Family) -> int:
        """Add up ``addresses``, ``beyond``, ``clients`` or ``hits`` of a family's rules."""
        return sum(getattr(proposal, what) for proposal in self.proposals if proposal.network.family is family)


class Unreachable(ValueError):
    """A family takes more rules than there may be."""

    def __init__(self, family: Family, least: int) -> None:
        super().__init__(f"{family.label} takes {least:,} rules at least")


def suggest(
    clients: Clients,
    below: LoadedRules | None = None,
    limit: Limit = EXACTLY,
    known: Known = NOTHING_KNOWN,
    *,
    progress: Progress = silent,
) -> Suggestion:
    """Return the narrowest allow rules, or the fewest, that the limit allows and that cover the clients.

    With `below`, no address is allowed that is not allowed there, each is decided as it is there, and clients that are
    not allowed there are left out.  Who is in a network of `known` brings in the narrowest one that holds him, at no
    cost to a limit of addresses.  A limit of rules is one for each family, of addresses for both together.

    Raises Unreachable.
    """
    lands = [_Land(family, clients.numbers(family), below, known, progress) for family in Family]
    excess: dict[Family | None, int] = {}
    networks: list[Network] = []
    if limit.rules is None:
        found = chosen([land.grove for land in lands], limit, progress)
        networks, excess = found.networks, {None: found.excess}
    else:
        for land in lands:
            try:
                found = chosen([land.grove], limit, progress)
            except TooFew as error:
                raise Unreachable(land.family, error.least) from error
            networks += found.networks
            excess[land.family] = found.excess
    by_family = {land.family: land for land in lands}
    proposals = [by_family[network.family].proposal(network, clients) for network in networks]
    left_out = [(land.family, [(number, number + 1) for number in land.outside]) for land in lands]
    outside = [clients.count(family, ranges) for family, ranges in left_out]
    return Suggestion(
        proposals,
        (sum(number for number, _ in outside), sum(hits for _, hits in outside)),
        {family: missing for family, missing in excess.items() if missing},
    )


class _Plot(NamedTuple):
    """The widest network that holds a client and may have one rule."""

    number: int
    free: int
    rule: Rule

    @property
    def end(self) -> int:
        return self.number + (1 << self.free)


class _Land:
    """The addresses of a family: where rules may be, and what they have to cover."""

    def __init__(
        self, family: Family, numbers: list[int], below: LoadedRules | None, known: Known, progress: Progress
    ) -> None:
        self.family = family
        self.outside: list[int] = []
        self._plots = self._plotted(numbers, _runs(family, below, progress))
        self._starts = [plot.number for plot in self._plots]
        self._known: list[tuple[int, str]] = []
        leaves = []
        for plot in counted(self._plots, f"{family.value} networks of clients", progress):
            there = numbers[bisect_left(numbers, plot.number) : bisect_left(numbers, plot.end)]
            leaves += [leaf for start, end in joined(self._units(there, plot, known)) for leaf in prefixes(start, end)]
        self._known = sorted(dict.fromkeys(self._known))
        self.grove = Grove(family, leaves, self._weigh)

    def proposal(self, network: Network, clients: Clients) -> Proposal:
        """Return the rule for a network."""
        start, end = network.range
        number, hits = clients.count(self.family, [(start, end)])
        within = self._known[bisect_left(self._known, start, key=itemgetter(0)) :]
        names = dict.fromkeys(name for _, name in takewhile(lambda unit: unit[0] < end, within))
        return Proposal(network, self._plot(start).rule, number, hits, tuple(names))

    def _plotted(self, numbers: list[int], runs: list[tuple[Range, Rule]]) -> list[_Plot]:
        plots: list[_Plot] = []
        starts = [start for (start, _), _ in runs]
        for number in numbers:
            if plots and number < plots[-1].end:
                continue
            index = bisect_right(starts, number) - 1
            if index < 0 or number >= runs[index][0][1]:
                self.outside.append(number)
                continue
            (start, end), rule = runs[index]
            plots.append(_Plot(*_widest(number, start, end), rule))
        return plots

    def _units(self, numbers: Sequence[int], plot: _Plot, known: Known) -> list[Range]:
        """Return what is to be covered in a plot: single clients, and known networks that have some."""
        units: list[Range] = []
        for number in numbers:
            found = known.narrowest(self.family, number)
            if found is not None and plot.number <= found.range[0] and found.range[1] <= plot.end:
                self._known.append((found.range[0], known.name(found)))
                units.append(found.range)
            else:
                units.append((number, number + 1))
        kept: list[Range] = []
        for start, end in sorted(units, key=lambda unit: (unit[0], -unit[1])):
            if not kept or start >= kept[-1][1]:
                kept.append((start, end))
        return kept

    def _plot(self, number: int) -> _Plot:
        return self._plots[bisect_right(self._starts, number) - 1]

    def _weigh(self, number: int, free: int) -> int | None:
        plot, size = self._plot(number), 1 << free
        return size if plot.number <= number and number + size <= plot.end else None


def _runs(family: Family, below: LoadedRules | None, progress: Progress) -> list[tuple[Range, Rule]]:
    """Return the addresses that may be allowed, with the rule of each."""
    if below is None:
        return [((0, family.size), ALLOW)]
    runs: list[tuple[Range, Rule]] = []
    partition = below.partition(family, progress)
    for start, end, index in partition.intervals():
        rule = partition.rule(index)
        if rule is None or not rule.allow:
            continue
        if runs and runs[-1][0][1] == start and runs[-1][1] == rule:
            runs[-1] = ((runs[-1][0][0], end), rule)
        else:
            runs.append(((start, end), rule))
    return runs


def _widest(number: int, start: int, end: int) -> tuple[int, int]:
    """Return the widest network within a range that holds an address, and how many bits are free."""
    free = (end - start).bit_length() - 1
    while number >> free << free < start or (number >> free) + 1 << free > end:
        free -= 1
    return number >> free << free, free


def prove_suggestion(
    suggestion: Suggestion, clients: Clients, below: LoadedRules | None = None, *, progress: Progress = silent
) -> dict[Family, int]:
    """Check each client and each address, and return how many addresses of each family are allowed no longer.

    Raises Unproven: a client that `below` allows, or without it any client, is not decided so; or another address is
    allowed that is not allowed there, or not so.
    """
    loaded = suggestion.loaded
    lost = dict.fromkeys(Family, 0)
    if below is not None:
        for difference in differences(below, loaded, progress=progress):
            if difference.after.rule is not None:
                raise Unproven(f"{difference.witness} is decided otherwise: {decoded(difference.after.key or b'')}")
            if difference.before.rule is not None and difference.before.rule.allow:
                lost[difference.family] += difference.addresses
    for family in Family:
        for number in counted(clients.numbers(family), "clients judged", progress):
            packed = number.to_bytes(family.octets, "big")
            wanted = ALLOW if below is None else below.decide(packed).rule
            if loaded.decide(packed).rule != (wanted if wanted is not None and wanted.allow else None):
                raise Unproven(f"{family.text(number)} is decided otherwise")
    return lost
