"""nginx's ``geo`` (ngx_http_geo_module) and ``map`` of addresses (ngx_http_map_module).

A ``geo`` gives a client the value of the most specific network, of equal ones the last, and ``default`` is the networks
of length 0; a ``map`` that of its address as text.  Whom they do not name has nothing as value.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.networks import Family, Network, parse_address_number, parse_cidr, prefixes
from s6tls.audit.formats.entries import (
    EVERYTHING,
    Diagnostic,
    LineError,
    Parsed,
    Statement,
    Statements,
    first_match,
    narrowest_first,
    not_mapped,
    sound,
)
from s6tls.audit.formats.lists.ranges import bounds
from s6tls.audit.formats.values import rule_of
from s6tls.audit.formats.web.directives import Directive, Directives

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from s6tls.audit.core.networks import Range

__all__ = ["parse_geo", "parse_map"]

_ADDRESSES = ("$remote_addr", "$realip_remote_addr")


def parse_geo(data: bytes, *, allow: bool = True, values: Collection[str] = (), mask_host_bits: bool = False) -> Parsed:
    """Read a ``geo``: clients with one of these values are allowed, or denied, and all others are not.

    Raises BadText.
    """
    return _Geo(data, "geo", allow, values, mask_host_bits).parsed()


def parse_map(data: bytes, *, allow: bool = True, values: Collection[str] = ()) -> Parsed:
    """Read a ``map`` of addresses, as `parse_geo` does.  Raises BadText."""
    return _Map(data, "map", allow, values).parsed()


class _Table:
    def __init__(
        self, data: bytes, name: str, allow: bool, values: Collection[str], mask_host_bits: bool = False
    ) -> None:
        self.read = Directives(data)
        self.name, self.allow, self.values, self.mask_host_bits = name, allow, values, mask_host_bits
        self.said: dict[Network | Range, Statements] = {}
        self.default = Statements()
        self.comments: list[str] = []

    def parsed(self) -> Parsed:
        """Return what the one table of a text says.  Raises BadText."""
        faults, found = self.read.faults, self.read.found
        tables = [one for one in found if one.name == self.name and one.end == "{"]
        for other in found:
            if other not in tables[:1]:
                faults.append(Diagnostic(other.line, f"not the one {self.name} $variable {{ … }}"))
        for table in tables[:1]:
            self.comments = table.comments
            try:
                self.check_head(table.words[1:])
            except LineError as error:
                faults.append(Diagnostic(table.line, str(error)))
            for directive in table.block:
                self.comments += directive.comments
                try:
                    self.take(directive)
                except (LineError, AddressError) as error:
                    faults.append(Diagnostic(directive.line, str(error)))
        if not tables and not faults:
            faults.append(Diagnostic(1, f"no {self.name} $variable {{ … }}"))
        faults += self.overlaps()
        if not self.default:
            self.default.say(EVERYTHING, rule_of("", self.allow, self.values), 0)
        statements = [said for one in self.said.values() for said in one]
        return sound(self.ordered(statements, (*self.comments, *self.read.trailing)), faults)

    def ordered(self, statements: list[Statement], trailing: tuple[str, ...]) -> Parsed:
        return narrowest_first([*statements, *self.default], trailing)

    def overlaps(self) -> Iterable[Diagnostic]:
        """Return the lines that have addresses of others, of which none is the more specific."""
        return ()

    def check_head(self, words: list[str]) -> None:
        """Raise LineError unless a table is about the client's address."""
        raise NotImplementedError

    def take(self, directive: Directive) -> None:
        """Take what stands in the table.  Raises LineError and AddressError."""
        raise NotImplementedError

    def say(self, at: Network | Range, networks: list[Network], value: str, directive: Directive) -> None:
        statements = Statements()
        statements.comments, self.comments = self.comments, []
        statements.say(networks, rule_of(value, self.allow, self.values), directive.line, directive.note)
        self.said[at] = statements

    def take_default(self, directive: Directive, value: str) -> None:
        self.default.clear()
        self.default.say(EVERYTHING, rule_of(value, self.allow, self.values), directive.line, directive.note)


class _Geo(_Table):
    ranges = False

    def check_head(self, words: list[str]) -> None:
        if len(words) not in (1, 2) or not words[-1].startswith("$"):
            raise LineError("not geo, maybe an address, and a variable")
        if len(words) == 2 and words[0] not in _ADDRESSES:
            raise LineError(f"not about the client's address: {words[0]}")

    def take(self, directive: Directive) -> None:
        words = directive.words
        if directive.end != ";" or len(words) > 2:
            raise LineError("not a network, a value and ;")
        if words == ["ranges"]:
            if self.said:
                raise LineError("ranges stands first")
            self.ranges = True
        elif len(words) != 2 or words[0] in ("include", "proxy", "proxy_recursive"):
            raise LineError(f"rules cannot express this parameter: {' '.join(words)[:60]}")
        elif words[0] == "default" and self.ranges:
            self.take_default(directive, words[1])
        elif words[0] == "default":
            for everybody in EVERYTHING:
                self.say(everybody, [everybody], words[1], directive)
        elif words[0] == "delete":
            at, _ = self.address(words[1])
            if self.said.pop(at, None) is None:
                raise LineError(f"nothing to delete: {words[1]}")
        else:
            at, networks = self.address(words[0])
            self.say(at, networks, words[1], directive)

    def overlaps(self) -> Iterator[Diagnostic]:
        ranges = sorted((*at, said[0].line) for at, said in self.said.items() if len(at) == 2)
        for (_, end, _), (start, _, line) in pairwise(ranges):
            if start < end:
                yield Diagnostic(line, "another range has some of these addresses")

    def address(self, text: str) -> tuple[Network | Range, list[Network]]:
        """Return what names a line of the table, and its networks."""
        if not self.ranges:
            at = not_mapped(parse_cidr(text, mask_host_bits=self.mask_host_bits))
            return at, [at]
        family, start, end = bounds(text)
        if family is Family.IP6 or "-" not in text:
            raise LineError(f"not a range of IPv4 addresses: {text[:40]}")
        if end == family.size:
            raise LineError("with ranges, IPv6 clients have the value of 255.255.255.255: leave it out")
        return (start, end), [Network(family, number, family.bits - free) for number, free in prefixes(start, end)]


class _Map(_Table):
    def check_head(self, words: list[str]) -> None:
        if len(words) != 2 or not words[1].startswith("$"):
            raise LineError("not map, what it is about, and a variable")
        if words[0] not in _ADDRESSES:
            raise LineError(f"not about the client's address: {words[0]}")

    def ordered(self, statements: list[Statement], trailing: tuple[str, ...]) -> Parsed:
        return first_match([*statements, *self.default], trailing)

    def take(self, directive: Directive) -> None:
        words = directive.words
        if directive.end == ";" and words == ["volatile"]:
            return
        if directive.end != ";" or len(words) != 2 or words[0] == "include":
            raise LineError(f"rules cannot express this: {' '.join(words)[:60]}")
        text, value = words
        if value.startswith("$"):
            raise LineError(f"the value is a variable: {value}")
        if text == "default":
            self.take_default(directive, value)
            return
        at = _client(text.lower())
        if at in self.said:
            raise LineError(f"it stands twice: {text}")
        self.say(at, [at], value, directive)


def _client(text: str) -> Network:
    """Return the client whose address nginx writes so.  Raises LineError."""
    try:
        family, number = parse_address_number(text)
    except AddressError:
        raise LineError(f"not the address of a client, as text: {text[:60]!r}") from None
    written = family.text(number)
    if text != written:
        raise LineError(f"no client's address is written so: write {written}")
    if family is Family.IP6 and 0xFF < number < 1 << 32:
        raise LineError("nginx writes an IPv4-compatible address in another way")
    return not_mapped(Network(family, number, family.bits))
