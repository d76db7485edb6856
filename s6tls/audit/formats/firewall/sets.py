"""Sets of addresses, those of ipset and of nft: what they have in common, and which of several is meant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, Network
from s6tls.audit.formats import addresses
from s6tls.audit.formats.entries import (
    Diagnostic,
    LineError,
    Statement,
    Statements,
    narrowest_first,
    plain_rule,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


@dataclass
class Element:
    """What one element of a set names; `excludes` takes it out of a wider one; one that `expires` goes by itself."""

    line: int
    networks: list[Network]
    note: str = ""
    excludes: bool = False
    expires: bool = False


@dataclass
class AddressSet:
    """A set; `family` is None if it is not one of addresses."""

    line: int
    family: Family | None
    kind: str
    elements: list[Element] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def networks(self) -> list[Network]:
        """Return what is in it.  Raises LineError."""
        if self.family is None:
            raise LineError(f"a set of {self.kind}, not of addresses")
        if not any(element.excludes for element in self.elements):
            return [at for element in self.elements for at in element.networks]
        said = (
            Statement(at, plain_rule(not element.excludes), element.line)
            for element in self.elements
            for at in element.networks
        )
        return [*addresses.allowed(LoadedRules.of(narrowest_first(said).rules)).networks()]


def chosen(sets: dict[str, AddressSet], names: Collection[str]) -> list[AddressSet]:
    """Return the sets that are named, or without a name those that there are, one of a family.  Raises LineError."""
    if missing := [name for name in names if name not in sets]:
        raise LineError(f"no set {missing[0]} (there are {', '.join(sets)[:200] or 'none'})")
    found = [sets[name] for name in names] or list(sets.values())
    if not found:
        raise LineError("no set")
    for family in Family:
        if not names and sum(one.family is family for one in found) > 1:
            raise LineError(
                f"several sets of {family.label} addresses: name those that count ({', '.join(sets)[:200]})"
            )
    return found


def say(statements: Statements, sets: list[AddressSet], allow: bool) -> Iterator[Diagnostic]:
    """Add what sets say if their addresses are all allowed, or all denied; yield what rules cannot express."""
    rule = plain_rule(allow)
    for one in sets:
        for comment in one.comments:
            statements.comment(comment)
        if any(element.excludes for element in one.elements):
            statements.say(one.networks(), rule, one.line)
            continue
        if one.family is None:
            yield Diagnostic(one.line, f"a set of {one.kind}, not of addresses")
        for element in one.elements:
            if allow and element.expires:
                yield Diagnostic(element.line, "an element that times out, which a rule does not")
            else:
                statements.say(element.networks, rule, element.line, element.note)
