"""nft's language: sets of addresses, and the chains that a new connection to this machine goes through.

Read is what ``nft list ruleset`` prints, and files for ``nft -f``.  Written are sets with intervals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.networks import Family, joined
from s6tls.audit.formats import cidrlist
from s6tls.audit.formats.entries import (
    BadText,
    Diagnostic,
    LineError,
    Parsed,
    Statements,
    network,
    networks_of,
    printable,
    sound,
    widest_first,
)
from s6tls.audit.formats.firewall import chains, nftrules, sets
from s6tls.audit.formats.firewall.chains import Chain, Outcome, Step
from s6tls.audit.formats.firewall.nftrules import NftChain, Table
from s6tls.audit.formats.firewall.nftwords import BLOCKS, Sentence, Sentences, listed
from s6tls.audit.formats.firewall.sets import AddressSet, Element
from s6tls.audit.formats.lists.ranges import networks_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.networks import Range

__all__ = ["parse", "write"]

TABLE = "s6tls"
"""The table of the sets that are written."""
_TYPES = {"ipv4_addr": Family.IP4, "ipv6_addr": Family.IP6, "ip saddr": Family.IP4, "ip6 saddr": Family.IP6}
_FAMILIES = {"ip": (Family.IP4,), "ip6": (Family.IP6,), "inet": tuple(Family), "netdev": tuple(Family)}
_OTHER_FAMILIES = ("arp", "bridge")
_OPTIONS_OF_SETS = ("flags", "auto-merge", "timeout", "gc-interval", "size", "policy", "comment", "counter")


def parse(data: bytes, *, names: Collection[str] = (), allow: bool = True, mask_host_bits: bool = False) -> Parsed:
    """Read what the chains decide, or if there are none, or `names` are given, what sets have.

    The addresses of sets are all allowed, or all denied.  Raises BadText.
    """
    sentences = Sentences(data)
    faults = sentences.faults
    reader = _Reader(mask_host_bits, faults)
    for sentence in sentences.found:
        reader.attempt(reader.command, sentence)
    trailing = [*reader.comments, *sentences.comments]
    tables = [table for table in reader.tables.values() if table.first()]
    try:
        if tables and not names:
            trailing += [comment for table in tables for one in table.sets.values() for comment in one.comments]
            return sound(_decided(tables, faults, trailing, mask_host_bits), faults)
        statements = Statements()
        named = {name: one for table in reader.tables.values() for name, one in table.sets.items()}
        faults += sets.say(statements, sets.chosen(named, names), allow)
    except LineError as error:
        raise BadText([*faults, Diagnostic(1, str(error))], Parsed([])) from None
    return sound(widest_first(statements, [*statements.comments, *trailing]), faults)


def _decided(tables: list[Table], faults: list[Diagnostic], trailing: list[str], mask_host_bits: bool) -> Parsed:
    """Return what the chains of all tables come to, without rules that become faults.  Raises LineError."""
    made: dict[str, Chain] = {}
    first: list[tuple[tuple[int, int], str]] = []
    met: set[Family] = set()
    if faults:
        return Parsed([])
    for place, table in enumerate(tables):
        met.update(table.families)
        found = nftrules.chains_of(table, mask_host_bits, faults)
        for name, chain in found.items():
            made[f"{place} {name}"] = chain
            for step in chain.steps:
                step.chain = f"{place} {step.chain}"
        for name, order in table.first().items():
            passed = [at for at in nftrules.EVERY if at.family not in table.families]
            found[name].steps.insert(0, Step(0, passed, Outcome.ACCEPT))
            first.append((order, f"{place} {name}"))
    order_met = [name for _, name in sorted(first, key=lambda one: one[0])]
    return chains.parsed(made, order_met, [family for family in Family if family in met], trailing)


class _Reader:
    def __init__(self, mask_host_bits: bool, faults: list[Diagnostic]) -> None:
        self._mask_host_bits = mask_host_bits
        self._faults = faults
        self.tables: dict[tuple[str, str], Table] = {}
        self.comments: list[str] = []

    def attempt(self, take: Callable[[Sentence], None], sentence: Sentence) -> None:
        """Take a sentence; what it cannot say becomes a fault."""
        try:
            take(sentence)
        except (LineError, AddressError) as error:
            self._faults.append(Diagnostic(sentence.line, str(error)))

    def command(self, sentence: Sentence) -> None:
        """Take what stands in no block.  Raises LineError."""
        words = sentence.words[1:] if sentence.words[0] in ("add", "create") else sentence.words
        command, *rest = words or [""]
        if words[:2] == ["flush", "ruleset"]:
            self.tables.clear()
        elif command in ("flush", "delete", "destroy"):
            self._undo(command, rest)
        elif command in (*BLOCKS, "element", "rule"):
            family, rest = _family(rest)
            if family in _OTHER_FAMILIES:
                return
            table = self.tables.setdefault((family, rest[0]), Table(_FAMILIES[family]))
            if command == "table":
                self._table(table, sentence)
            else:
                self._object(table, command, rest[1:], sentence)
        else:
            raise LineError(f"neither a table nor what adds to one: {' '.join(words)[:60]}")

    def _undo(self, command: str, words: list[str]) -> None:
        kind, *rest = [*words, ""]
        family, names = _family(rest[:-1])
        table = self.tables.get((family, names[0]))
        if kind == "table" and command != "flush":
            self.tables.pop((family, names[0]), None)
        elif command != "flush" or kind not in ("table", "set", "chain"):
            raise LineError(f"rules cannot express this: {command} {kind[:40]}")
        elif table is not None and kind == "set" and names[-1] in table.sets:
            table.sets[names[-1]].elements.clear()
        elif table is not None:
            for name, chain in table.chains.items():
                if kind == "table" or name == names[-1]:
                    chain.rules.clear()

    def _table(self, table: Table, sentence: Sentence) -> None:
        for inner in sentence.block or ():
            if inner.words[:1] == ["flags"]:
                self._faults.append(Diagnostic(inner.line, "a table with flags, such as a dormant one"))
            elif inner.words[0] in BLOCKS:
                self.attempt(lambda inner: self._object(table, inner.words[0], inner.words[1:], inner), inner)
            elif inner.words[0] != "comment":
                self._faults.append(Diagnostic(inner.line, f"not in a table: {' '.join(inner.words)[:60]}"))

    def _object(self, table: Table, kind: str, rest: list[str], sentence: Sentence) -> None:
        """Take a set, a chain, or what is added to one.  Raises LineError."""
        name = rest[0] if rest else ""
        if kind == "set":
            self._set(table, name, sentence)
        elif kind == "element":
            if name not in table.sets:
                raise LineError(f"no set {name[:40]}")
            self._elements(table.sets[name], sentence, len(sentence.words) - len(rest) + 1)
        elif kind == "chain":
            chain = table.chains.setdefault(name, NftChain())
            for inner in sentence.block or ():
                inner.comments = [*sentence.comments, *inner.comments]
                sentence.comments = []
                self.attempt(lambda inner: nftrules.add_to_chain(chain, inner), inner)
        elif kind == "rule":
            if name not in table.chains:
                raise LineError(f"no chain {name[:40]}")
            table.chains[name].rules.append(Sentence(sentence.line, rest[1:], comments=sentence.comments))
            return
        self.comments += sentence.comments

    def _set(self, table: Table, name: str, sentence: Sentence) -> None:
        made = table.sets.setdefault(name, AddressSet(sentence.line, None, "unknown"))
        made.comments += sentence.comments
        sentence.comments = []
        for inner in sentence.block or ():
            made.comments += inner.comments
            word, *rest = inner.words
            if word in ("type", "typeof"):
                made.kind = " ".join(rest)
                made.family = _TYPES.get(made.kind)
            elif word == "elements" and rest[:1] == ["="]:
                self._elements(made, inner, 2)
            elif word not in _OPTIONS_OF_SETS:
                self._faults.append(Diagnostic(inner.line, f"not in a set: {' '.join(inner.words)[:60]}"))

    def _elements(self, into: AddressSet, sentence: Sentence, start: int) -> None:
        if into.family is None:
            return
        for line, words in listed(sentence, start):
            try:
                element = self._element(line, words)
                if any(at.family is not into.family for at in element.networks):
                    raise LineError(f"not of the family of the set: {words[0][:40]}")
                into.elements.append(element)
            except (LineError, AddressError) as error:
                self._faults.append(Diagnostic(line, str(error)))

    def _element(self, line: int, words: list[str]) -> Element:
        value, *rest = words
        note, expires = "", False
        while rest:
            word, *rest = rest
            if word == "comment" and rest:
                note = printable(rest.pop(0).removeprefix('"'))
            elif word in ("timeout", "expires") and rest:
                expires = rest.pop(0) not in ("0", "0s")
            elif word == "counter":
                del rest[: 4 if rest[:1] == ["packets"] else 0]
            else:
                raise LineError(f"rules cannot express this element: {' '.join(words)[:60]}")
        networks = networks_in(value) if "-" in value else [network(value, mask_host_bits=self._mask_host_bits)]
        return Element(line, networks, note, expires=expires)


def _family(words: list[str]) -> tuple[str, list[str]]:
    """Return the family of a table, and the words behind it.  Raises LineError."""
    family, *rest = words if words and words[0] in (*_FAMILIES, *_OTHER_FAMILIES) else ["ip", *words]
    if not rest:
        raise LineError("a table without a name")
    return family, rest


def write(loaded: LoadedRules, *, allow: bool = True, families: Collection[Family] = tuple(Family)) -> str:
    """Return a table with a set for each family, of whom rules allow, or, without `allow`, do not.  Raises Unsayable.

    Loading it again replaces what is in the sets, and nothing else.
    """
    networks_of(loaded, says_mapped=False)
    verdict = "allowed" if allow else "denied"
    lines = []
    for family in families:
        name, kind = f"{verdict}{family.value[-1]}", "ipv4_addr" if family is Family.IP4 else "ipv6_addr"
        lines += [f"add table inet {TABLE}", f"add set inet {TABLE} {name} {{ type {kind}; flags interval; }}"]
        lines.append(f"flush set inet {TABLE} {name}")
        if found := [_interval(family, one) for one in joined(cidrlist.clients(loaded, family, allow))]:
            lines += [f"add element inet {TABLE} {name} {{", *(f"\t{text}," for text in found), "}"]
    return "".join(f"{line}\n" for line in lines)


def _interval(family: Family, ends: Range) -> str:
    first, last = family.text(ends[0]), family.text(ends[1] - 1)
    return first if first == last else f"{first}-{last}"
