"""Apache's ``Require`` (mod_authz_core, mod_authz_host), and ``Order``, ``Allow from``, ``Deny from`` before it.

A ``Require`` grants some clients and refuses all others; with ``not`` it refuses some, and says nothing of others.
Of several, one that grants is enough (``<RequireAny>``, and where no section is), or none may refuse
(``<RequireAll>``), or none may grant (``<RequireNone>``).  Whom nothing grants is refused in the end.
``Order`` tells which of ``Allow`` and ``Deny`` has the last word, and what happens to clients that neither names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, Network, cidrs
from s6tls.audit.formats import addresses, cidrlist
from s6tls.audit.formats.addresses import ALL, NONE, Addresses
from s6tls.audit.formats.entries import (
    EVERYTHING,
    Diagnostic,
    LineError,
    Parsed,
    Statement,
    Statements,
    faults_of,
    first_match,
    network,
    networks_of,
    not_mapped,
    plain_rule,
    sound,
)

__all__ = ["parse", "write"]

_SECTIONS = {"requireany": "<RequireAny>", "requireall": "<RequireAll>", "requirenone": "<RequireNone>"}
_ORDERS = {"deny,allow": True, "allow,deny": False, "mutual-failure": False}
_PRESENT = ("mod_authz_core.c", "mod_authz_host.c", "authz_core_module", "authz_host_module")
_TAG = re.compile(r"<(/?)([A-Za-z]+)[ \t]*([^>]*?)[ \t]*>")
_WORD = re.compile(r'(?:"([^"\\]*)"|([^ \t"]+))(?:[ \t]+|$)')
_PARTIAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}\.?")


@dataclass
class _Section:
    """What its directives come to: whom some grant, whom some refuse; and whether one of them can grant at all."""

    name: str
    line: int
    granted: list[Addresses] = field(default_factory=list)
    refused: list[Addresses] = field(default_factory=list)
    can_grant: bool = False

    def add(self, granted: Addresses, refused: Addresses) -> None:
        self.granted.append(granted)
        self.refused.append(refused)

    def result(self) -> tuple[Addresses, Addresses]:
        """Return whom it grants, and whom it refuses.  Raises LineError."""
        if not self.can_grant:
            raise LineError(f"nothing in {_SECTIONS[self.name]} can grant anything")
        granted, refused = addresses.union(self.granted), addresses.union(self.refused)
        if self.name == "requirenone":
            return NONE, granted
        if self.name == "requireall":
            return granted - refused, refused
        return granted, refused - granted


def parse(data: bytes, *, mask_host_bits: bool = False) -> Parsed:
    """Read the directives of one place.  Raises BadText."""
    reader = _Reader(mask_host_bits)
    faults = faults_of(_continued(data), reader.take)
    faults += reader.incomplete()
    return sound(reader.parsed(), faults)


def _continued(data: bytes) -> bytes:
    """Join lines that go on in the next one, with empty lines behind them."""
    lines: list[bytes] = []
    begun, passed = b"", 0
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        begun += line
        if line.endswith((b"\\\n", b"\\\r\n")):
            begun, passed = begun.rstrip(b"\r\n")[:-1], passed + 1
        else:
            lines += [begun, b"\n" * passed]
            begun, passed = b"", 0
    return b"".join([*lines, begun])


def _words(line: str) -> list[str]:
    found = []
    end = 0
    while word := _WORD.match(line, end):
        found.append(word[1] or word[2] or "")
        end = word.end()
    if end < len(line):
        raise LineError("a quote that does not end, or with something right behind it")
    return found


class _Reader:
    def __init__(self, mask_host_bits: bool) -> None:
        self._mask_host_bits = mask_host_bits
        self._open = [_Section("requireany", 0)]
        self._skipping: list[bool] = []
        self._said = Statements()
        self._default: bool | None = None
        self._old = 0
        self._broken = False

    def take(self, number: int, line: str) -> None:
        """Take a line.  Raises LineError and AddressError."""
        line = line.strip(" \t")
        if line.startswith("#"):
            self._said.comment(line[1:])
            return
        tag = _TAG.fullmatch(line)
        if tag and tag[2].lower() == "ifmodule":
            self._if_module(tag[1], tag[3])
        elif any(self._skipping) or not line:
            return
        elif line.startswith("<"):
            self._section(tag, number)
        else:
            self._directive(_words(line), number)

    def _if_module(self, closing: str, module: str) -> None:
        if closing:
            if not self._skipping:
                self._broken = True
                raise LineError("</IfModule> without <IfModule>")
            self._skipping.pop()
            return
        if module.removeprefix("!") not in _PRESENT:
            self._broken = True
            raise LineError(f"whether a server has this module is not known: {module}")
        self._skipping.append(module.startswith("!"))

    def _section(self, tag: re.Match[str] | None, number: int) -> None:
        name = tag[2].lower() if tag else ""
        if tag is None or name not in _SECTIONS or tag[3]:
            self._broken = True
            raise LineError("not a section of authorization: rules are of one place")
        if not tag[1]:
            self._open.append(_Section(name, number))
            return
        if len(self._open) == 1 or self._open[-1].name != name:
            self._broken = True
            raise LineError(f"no {_SECTIONS[name]} is open here")
        section = self._open.pop()
        result = section.result()
        self._add(result, is_negative=name == "requirenone")

    def _add(self, result: tuple[Addresses, Addresses], *, is_negative: bool) -> None:
        section = self._open[-1]
        if is_negative and section.name != "requireall":
            raise LineError(f"a negation has no effect in {_SECTIONS[section.name]}")
        section.can_grant |= not is_negative
        section.add(*result)

    def _directive(self, words: list[str], number: int) -> None:
        name, *rest = words
        name = name.lower()
        if name == "require":
            self._require(rest, number)
        elif name == "order":
            if len(rest) != 1 or rest[0].lower() not in _ORDERS:
                raise LineError("not Order Deny,Allow or Order Allow,Deny")
            self._default = _ORDERS[rest[0].lower()]
            self._old = self._old or number
        elif name in ("allow", "deny"):
            if len(rest) < 2 or rest[0].lower() != "from":
                raise LineError(f"not {words[0]} from and addresses")
            networks = EVERYTHING if [word.lower() for word in rest[1:]] == ["all"] else self._networks(rest[1:])
            self._old = self._old or number
            self._said.say(networks, plain_rule(name == "allow"), number)
        else:
            raise LineError(f"rules cannot express this directive: {words[0][:40]}")

    def _require(self, words: list[str], number: int) -> None:
        is_negative = [word.lower() for word in words[:1]] == ["not"]
        entity, *rest = [*words[is_negative:], ""]
        if entity.lower() == "all":
            if is_negative or len(rest) != 2 or rest[0].lower() not in ("granted", "denied"):
                raise LineError("not Require all granted or Require all denied")
            grants = rest[0].lower() == "granted"
            networks, result = EVERYTHING, (ALL, NONE) if grants else (NONE, ALL)
        elif entity.lower() == "ip" and len(rest) > 1:
            networks = self._networks(rest[:-1])
            named = addresses.of(networks)
            grants = not is_negative
            result = (named, ~named) if grants else (NONE, named)
        else:
            raise LineError(f"rules cannot express what is required: {' '.join(words)[:60]}")
        self._add(result, is_negative=is_negative)
        self._said.say(networks, plain_rule(grants), number)

    def _networks(self, words: list[str]) -> list[Network]:
        return [self._network(word) for word in words]

    def _network(self, word: str) -> Network:
        if _PARTIAL.fullmatch(word):
            numbers = word.rstrip(".").split(".")
            return network(".".join([*numbers, *["0"] * (4 - len(numbers))]) + f"/{8 * len(numbers)}")
        at = not_mapped(network(word, mask_host_bits=self._mask_host_bits))
        if not at.length:
            raise LineError(f"Apache takes no prefix of length 0: {word}")
        return at

    def incomplete(self) -> list[Diagnostic]:
        """Return why lines that are right by themselves do not do."""
        faults = [Diagnostic(section.line, f"{_SECTIONS[section.name]} is not closed") for section in self._open[1:]]
        if self._skipping:
            faults.append(Diagnostic(1, "<IfModule> is not closed"))
        if not self._old and not self._open[0].granted:
            faults.append(Diagnostic(1, "nothing is required: no Require, and no Order, Allow or Deny"))
        self._broken |= bool(faults)
        if self._old and self._open[0].granted:
            faults.append(Diagnostic(self._old, "both Require, and Order, Allow or Deny: take one of them"))
            self._broken = True
        return faults

    def parsed(self) -> Parsed:
        """Return what the directives come to."""
        if self._broken:
            return Parsed([])
        if self._old:
            return self._by_order()
        said = sorted(self._said, key=lambda one: one.rule.allow)
        everybody = [Statement(at, plain_rule(False)) for at in EVERYTHING]
        as_written = first_match([*said, *everybody], self._said.comments)
        granted = addresses.union(self._open[0].granted)
        if addresses.allowed(LoadedRules.of(as_written.rules)) == granted:
            return as_written
        cut = Statements()
        cut.comments = [comment for one in self._said for comment in one.about.comments] + self._said.comments
        cut.say(granted.networks(), plain_rule(True), 1)
        return first_match([*cut, *everybody], cut.comments)

    def _by_order(self) -> Parsed:
        default = self._default is not False
        said = sorted(self._said, key=lambda one: one.rule.allow is not default)
        everybody = [Statement(at, plain_rule(default)) for at in EVERYTHING]
        return first_match([*said, *everybody], self._said.comments)


def write(loaded: LoadedRules) -> str:
    """Return a ``Require ip`` for each network of the fewest that hold whom rules allow.  Raises Unsayable."""
    networks_of(loaded, says_mapped=False)
    granted = [cidrlist.clients(loaded, family, True) for family in Family]
    if granted == [[(0, family.size)] for family in Family]:
        return "Require all granted\n"
    found = (at for family, ranges in zip(Family, granted, strict=True) for at in cidrs(family, ranges))
    lines = [f"Require ip {part}\n" for at in found for part in cidrlist.halves(at)]
    return "".join(lines) or "Require all denied\n"
