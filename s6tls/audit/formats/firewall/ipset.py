"""What ``ipset save`` writes and ``ipset restore`` reads."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family, Network, cidrs
from s6tls.audit.formats import cidrlist
from s6tls.audit.formats.entries import (
    BadText,
    Diagnostic,
    LineError,
    Parsed,
    Statements,
    faults_of,
    network,
    networks_of,
    printable,
    sound,
    widest_first,
)
from s6tls.audit.formats.firewall.sets import AddressSet, Element, chosen, say
from s6tls.audit.formats.lists.ranges import networks_in

if TYPE_CHECKING:
    from collections.abc import Collection

    from s6tls.audit.core.loaded import LoadedRules

__all__ = ["parse", "write"]

_KINDS = ("hash:ip", "hash:net", "bitmap:ip")
_EXISTING = ("-exist", "-!", "--exist")
_FLAGS_OF_SETS = ("counters", "comment", "skbinfo", "forceadd")
_FLAGS_OF_ELEMENTS = ("nomatch",)
_FEWEST_ELEMENTS = 1 << 20


def parse(data: bytes, *, names: Collection[str] = (), allow: bool = True, mask_host_bits: bool = False) -> Parsed:
    """Read the sets of these names; their addresses are all allowed, or all denied.  Raises BadText."""
    reader = _Reader(mask_host_bits)
    faults = faults_of(data, reader.take)
    statements = Statements()
    try:
        faults += say(statements, chosen(reader.sets, names), allow)
    except LineError as error:
        raise BadText([*faults, Diagnostic(1, str(error))], Parsed([])) from None
    return sound(widest_first(statements, [*statements.comments, *reader.comments]), faults)


class _Reader:
    def __init__(self, mask_host_bits: bool) -> None:
        self._mask_host_bits = mask_host_bits
        self._masks: dict[str, int] = {}
        self.sets: dict[str, AddressSet] = {}
        self.comments: list[str] = []

    def take(self, number: int, line: str) -> None:
        """Take a line.  Raises LineError and AddressError."""
        if line.startswith("#"):
            self.comments.append(printable(line[1:]))
            return
        try:
            words = [word for word in shlex.split(line) if word not in _EXISTING]
        except ValueError as error:
            raise LineError(f"{error}") from None
        if not words or words == ["COMMIT"]:
            return
        command, *rest = words
        if command in ("create", "-N") and len(rest) >= 2:
            self._create(number, *rest)
        elif command in ("add", "-A") and len(rest) >= 2:
            self._add(number, *rest)
        elif command in ("flush", "-F") and len(rest) == 1:
            self._known(rest[0]).elements.clear()
        elif command in ("destroy", "-X") and len(rest) == 1:
            self._known(rest[0])
            del self.sets[rest[0]]
        elif command in ("swap", "-W") and len(rest) == 2:
            one, other = map(self._known, rest)
            self.sets[rest[0]], self.sets[rest[1]] = other, one
        else:
            raise LineError(f"not create, add, flush, swap or destroy: {line[:60]}")

    def _known(self, name: str) -> AddressSet:
        if name not in self.sets:
            raise LineError(f"no set {name[:40]} is created before")
        return self.sets[name]

    def _create(self, number: int, name: str, kind: str, *options: str) -> None:
        given = _pairs(options, _FLAGS_OF_SETS)
        family: Family | None = Family.IP6 if given.get("family") == "inet6" else Family.IP4
        if kind not in _KINDS:
            family = None
        mask = given.get("netmask", "")
        if mask and not (mask.isascii() and mask.isdigit()):
            raise LineError(f"not a prefix length: {mask[:40]}")
        if name not in self.sets:
            self.sets[name] = AddressSet(number, family, kind, [], self.comments)
            self.comments = []
        self._masks[name] = int(mask) if mask else 128

    def _add(self, number: int, name: str, entry: str, *options: str) -> None:
        into = self._known(name)
        given = _pairs(options, _FLAGS_OF_ELEMENTS)
        if into.family is None:
            return
        networks = self._networks(entry)
        if any(at.family is not into.family for at in networks):
            raise LineError(f"not of the family of the set: {entry[:40]}")
        length = self._masks[name]
        masked = [at if at.length <= length else _widened(at, length) for at in networks]
        expires = given.get("timeout", "0") != "0"
        into.elements.append(Element(number, masked, printable(given.get("comment", "")), "nomatch" in given, expires))

    def _networks(self, entry: str) -> list[Network]:
        if "-" in entry:
            return networks_in(entry)
        return [network(entry, mask_host_bits=self._mask_host_bits)]


def _widened(at: Network, length: int) -> Network:
    rest = at.family.bits - length
    return Network(at.family, at.number >> rest << rest, length)


def _pairs(words: tuple[str, ...], flags: tuple[str, ...]) -> dict[str, str]:
    """Return options with their values, where they are not `flags`.  Raises LineError."""
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word in flags:
            found[word] = ""
        else:
            value = next(rest, None)
            if value is None:
                raise LineError(f"nothing behind {word[:40]}")
            found[word] = value
    return found


def write(loaded: LoadedRules, *, allow: bool = True, families: Collection[Family] = tuple(Family)) -> str:
    """Return a set for each family, of whom rules allow, or, without `allow`, do not.  Raises Unsayable.

    Each is filled beside the one that is there and takes its place as a whole.
    """
    networks_of(loaded, says_mapped=False)
    lines = []
    for family in families:
        name = f"s6-{'allowed' if allow else 'denied'}{family.value[-1]}"
        found = [
            part for line in cidrs(family, cidrlist.clients(loaded, family, allow)) for part in cidrlist.halves(line)
        ]
        size = max(_FEWEST_ELEMENTS, 1 << (len(found) - 1).bit_length() if found else 0)
        made = f"hash:net family {'inet' if family is Family.IP4 else 'inet6'} maxelem {size}"
        lines += [f"create {name} {made} -exist", f"create {name}-new {made} -exist", f"flush {name}-new"]
        lines += [f"add {name}-new {at}" for at in found]
        lines += [f"swap {name}-new {name}", f"destroy {name}-new"]
    return "".join(f"{line}\n" for line in lines)
