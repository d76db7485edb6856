"""Networks that belong together, such as those that a provider publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.rule import ALLOW
from s6tls.audit.core.networks import Family, Network
from s6tls.audit.core.partition import NO_RULE, IntervalIndex, Partition

if TYPE_CHECKING:
    from collections.abc import Iterable


class Known:
    """Networks and their names, which may be empty; they may nest."""

    def __init__(self, named: Iterable[tuple[Network, str]]) -> None:
        self._names: dict[Network, str] = {}
        for network, name in named:
            self._names.setdefault(network, name)
        rules = {network.family.key(*network[1:]): ALLOW for network in self._names}
        self._partitions = {family: Partition(rules, family) for family in Family}
        self._indexes = {family: IntervalIndex(partition) for family, partition in self._partitions.items()}

    def narrowest(self, family: Family, number: int) -> Network | None:
        """Return the narrowest network that holds an address."""
        index = self._indexes[family].rule_at(number)
        if index == NO_RULE:
            return None
        partition = self._partitions[family]
        return Network(family, partition.numbers[index], partition.lengths[index])

    def name(self, network: Network) -> str:
        """Return the name of one of the networks, or its text."""
        return self._names[network] or str(network)


NOTHING_KNOWN = Known([])
