"""What the formats share: rules with what is known about their making, located faults, and first-match order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.rule import ALLOW, DENY
from s6tls.accessrules.text import decoded, shown
from s6tls.audit.core.networks import Family, Network, family_name, parse_address_number, parse_cidr, split_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.loaded import LoadedRules

    _ByLength = dict[int, dict[int, "Statement"]]

__all__ = ["Entry", "Parsed", "Provenance", "BadText", "Unsayable"]


@dataclass(frozen=True)
class Provenance:
    """Where a rule comes from: who answers for it, why, until when, and comments; ``""`` and None say nothing.

    `note` stands behind the rule on its line, `comments` on lines of their own before it.
    """

    owner: str = ""
    ticket: str = ""
    expires: date | None = None
    note: str = ""
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A rule with its key, its provenance, and the line it comes from: 0 for what holds without a line that says it.

    `file` counts the files that are read together.
    """

    key: bytes
    rule: Rule
    provenance: Provenance = Provenance()
    line: int = field(default=0, compare=False)
    file: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Diagnostic:
    """What is wrong with a line; `file` counts the files that are read together."""

    line: int
    message: str
    file: int = 0


class BadText(Exception):
    """A text does not say rules, or says what rules cannot; `faults` are in the order of its lines.

    `rest` is what its other lines say.
    """

    def __init__(self, faults: list[Diagnostic], rest: Parsed) -> None:
        super().__init__("; ".join(f"line {fault.line}: {fault.message}" for fault in faults))
        self.faults, self.rest = faults, rest


class Unsayable(Exception):
    """Rules say what a format cannot; `reasons` are keys and why."""

    def __init__(self, reasons: list[tuple[bytes, str]]) -> None:
        super().__init__("; ".join(f"{shown(key)}: {why}" for key, why in reasons))
        self.reasons = reasons


class LineError(ValueError):
    """One line cannot be taken; the message says why."""


@dataclass(frozen=True)
class Parsed:
    """What a text says: its rules, comments behind the last of them, and remarks on lines that say nothing."""

    entries: list[Entry]
    trailing: tuple[str, ...] = ()
    remarks: list[Diagnostic] = field(default_factory=list)

    @property
    def rules(self) -> list[tuple[bytes, Rule]]:
        """The rules with their keys, in order."""
        return [(entry.key, entry.rule) for entry in self.entries]


def sound(parsed: Parsed, faults: list[Diagnostic]) -> Parsed:
    """Return what a text says.  Raises BadText if there are faults in it."""
    if faults:
        raise BadText(sorted(faults, key=lambda fault: (fault.file, fault.line)), parsed)
    return parsed


def faults_of(data: bytes, take: Callable[[int, str], None], *, file: int = 0) -> list[Diagnostic]:
    """Hand the lines of a text to `take`; return the faults: each LineError or AddressError that it raises."""
    faults: list[Diagnostic] = []
    for number, raw in enumerate(data.removesuffix(b"\n").split(b"\n") if data else (), 1):
        try:
            take(number, _decoded(raw))
        except (LineError, AddressError) as error:
            faults.append(Diagnostic(number, str(error), file))
    return faults


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError:
        raise LineError("not UTF-8") from None


def clean(note: str) -> str:
    """Return a comment as provenance keeps it: without blanks around it.  Raises LineError for control characters."""
    if not note.replace("\t", " ").isprintable():
        raise LineError("control characters in a comment")
    return note.strip()


def printable(note: str) -> str:
    """Return a comment as provenance keeps it, with blanks for control characters."""
    return "".join(char if char.isprintable() else " " for char in note).strip()


def whole_text(data: bytes) -> tuple[str, list[Diagnostic]]:
    """Return a text that lines do not divide, with nothing for each line that is a fault: it is not UTF-8."""
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        lines: list[str] = []
        faults = faults_of(data, lambda number, line: lines.extend([""] * (number - 1 - len(lines)) + [line]))
        return "\n".join(lines), faults


def network(text: str, *, mask_host_bits: bool = False) -> Network:
    """Return the network that ADDRESS, ADDRESS/LENGTH, or, for IPv4, ADDRESS/MASK stands for.  Raises AddressError.

    Bits that are set beyond the prefix are cleared with `mask_host_bits`, and else an error.
    """
    address, _, mask = text.partition("/")
    if "." in mask and ":" not in address:
        _, bits = parse_address_number(mask)
        length = 32 - (~bits & 0xFFFFFFFF).bit_length()
        if bits != 0xFFFFFFFF >> 32 - length << 32 - length:
            raise AddressError(f"not a mask: {mask}")
        text = f"{address}/{length}"
    return parse_cidr(text, mask_host_bits=mask_host_bits)


MAPPED = parse_cidr("::ffff:0:0/96")


def not_mapped(at: Network) -> Network:
    """Return a network for a program that takes the clients of ``::ffff:0:0/96`` for IPv4 clients.

    Raises LineError for a network within that one.
    """
    start, end = MAPPED.range
    if at.family is Family.IP6 and start <= at.number < end:
        raise LineError(f"clients of {MAPPED} count as IPv4 clients")
    return at


EVERYTHING = [Network(family, 0, 0) for family in Family]


@dataclass(frozen=True)
class Statement:
    """A network that a line decides; `implied` if the line does not name it."""

    network: Network
    rule: Rule
    line: int = 0
    about: Provenance = Provenance()
    file: int = 0
    implied: bool = False


class Statements(list[Statement]):
    """What the lines of a text say, in their order, with the comments on lines of their own before each."""

    def __init__(self) -> None:
        super().__init__()
        self.comments: list[str] = []

    def comment(self, text: str) -> None:
        """Keep a comment for what follows."""
        self.comments.append(printable(text))

    def say(
        self,
        networks: Iterable[Network],
        rule: Rule,
        line: int,
        note: str = "",
        *,
        file: int = 0,
        implied: bool = False,
    ) -> None:
        """Add what a line says of networks; the comments so far go to the first of them."""
        for at in networks:
            about = Provenance(note=note, comments=tuple(self.comments))
            self.comments.clear()
            self.append(Statement(at, rule, line, about, file, implied))


def first_match(statements: Iterable[Statement], trailing: Iterable[str] = ()) -> Parsed:
    """Turn statements, of which the first that matches counts, into rules, of which the most specific counts.

    Networks either nest or are disjoint.  So a statement counts for nothing if an earlier one covers it, and is
    remarked on; every other one becomes a rule as it stands, since all that covers it and lies behind it is wider.
    `trailing` are the comments behind the last one.
    """
    said = list(statements)
    return _judged(said, range(len(said)), trailing)


def widest_first(statements: Iterable[Statement], trailing: Iterable[str] = ()) -> Parsed:
    """Turn statements that all have one verdict into rules in their order, without those that a wider one covers."""
    said = list(statements)
    order = sorted(range(len(said)), key=lambda place: (said[place].network.length, said[place].implied))
    return _judged(said, order, trailing)


def narrowest_first(statements: Iterable[Statement], trailing: Iterable[str] = ()) -> Parsed:
    """Turn statements, of which the most specific counts, and of equal ones the first, into rules in their order."""
    said = list(statements)
    order = sorted(range(len(said)), key=lambda place: -said[place].network.length)
    return _judged(said, order, trailing)


def _judged(said: list[Statement], order: Iterable[int], trailing: Iterable[str]) -> Parsed:
    """Return rules in the order of their statements, which are judged in another one."""
    kept = [False] * len(said)
    taken: dict[Family, _ByLength] = {family: {} for family in Family}
    remarks = []
    for place in order:
        statement = said[place]
        at = statement.network
        by = _covering(at, taken[at.family])
        if by is None:
            kept[place] = True
            taken[at.family].setdefault(at.length, {})[at.number] = statement
        elif statement.line and not statement.implied:
            remarks.append(_unreached(statement, by))
    entries: list[Entry] = []
    comments: tuple[str, ...] = ()
    for statement, is_kept in zip(said, kept, strict=True):
        comments += statement.about.comments
        if is_kept:
            key = statement.network.family.key(*statement.network[1:])
            about = replace(statement.about, comments=comments)
            entries.append(Entry(key, statement.rule, about, statement.line, statement.file))
            comments = ()
    remarks.sort(key=lambda remark: (remark.file, remark.line))
    return Parsed(entries, (*comments, *trailing), remarks)


def _unreached(statement: Statement, by: Statement) -> Diagnostic:
    where = f"line {by.line}" if by.line else "what comes before"
    if by.file != statement.file:
        where += " of the other file"
    return Diagnostic(statement.line, f"{statement.network} is never reached: {where} covers it", statement.file)


def _covering(at: Network, statements: _ByLength) -> Statement | None:
    """Return one of the statements whose network holds this one, if there is one."""
    for length, by_number in statements.items():
        rest = at.family.bits - length
        if length <= at.length and (found := by_number.get(at.number >> rest << rest)) is not None:
            return found
    return None


def plain_rule(allow: bool) -> Rule:
    """Return the rule that only allows or denies."""
    return ALLOW if allow else DENY


def networks_of(
    loaded: LoadedRules, *, says_env: bool = False, says_ip6: bool = True, says_mapped: bool = True
) -> list[tuple[Network, Rule]]:
    """Return networks and their rules, the most specific first: then the first that matches decides too.

    Raises Unsayable if there are rules not by address, that no address can match, or that do more than allow or
    deny (`says_env`: more than that and set variables).
    """
    found = []
    reasons = []
    for key, rule in loaded.rules.items():
        try:
            at = _network_of(key)
            if at.family is Family.IP6 and not says_ip6:
                raise LineError("the format has no IPv6")
            if not says_mapped:
                not_mapped(at)
            if rule.exec:
                raise LineError("the format has no exec")
            for name, value in rule.env:
                if value is None or not says_env:
                    raise LineError(f"the format cannot {'unset' if value is None else 'set'} variables: {shown(name)}")
        except LineError as error:
            reasons.append((key, str(error)))
        else:
            found.append((at, rule))
    if reasons:
        raise Unsayable(reasons)
    return sorted(found, key=lambda one: (-one[0].length, one[0].family.bits, one[0].number))


def _network_of(key: bytes) -> Network:
    family, name = split_key(key)
    if family is None:
        raise LineError(f"the format has no rules of family {decoded(family_name(key))}")
    try:
        return Network(family, *family.parse_name(name))
    except AddressError as error:
        raise LineError(f"no address can match it: {error}") from error
