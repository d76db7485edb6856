"""Lists laid over each other, what happens to clients that none decides, and rules without their variables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.keys import ANY_NAME, BY_NAME
from s6tls.accessrules.text import shown
from s6tls.audit.core.networks import Family, Network, split_key
from s6tls.audit.formats.entries import (
    BadText,
    Diagnostic,
    Entry,
    Parsed,
    Statement,
    first_match,
    plain_rule,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def layered(lists: Sequence[Parsed], names: Sequence[str]) -> Parsed:
    """Lay each list over those before it: it decides whatever one of its lines decides.

    `names` are those of the files, by their numbers; each note begins with the file and the line.  Rules that are not
    by address can only be in the first list, as rules by address decide before them.  Raises BadText.
    """
    statements: list[Statement] = []
    others: list[Entry] = []
    faults: list[Diagnostic] = []
    for place, parsed in reversed([*enumerate(lists)]):
        networks = [(network, entry) for entry in parsed.entries if (network := _network(entry)) is not None]
        with_networks = {entry.key for _, entry in networks}
        for entry in parsed.entries:
            if entry.key not in with_networks and place:
                message = "a rule that is not by address cannot lie over other lists: put this list first"
                faults.append(Diagnostic(entry.line, f"{shown(entry.key)}: {message}", entry.file))
            elif entry.key not in with_networks:
                others.append(entry)
        said = [_statement(network, entry, names) for network, entry in networks if entry.line or not place]
        statements += sorted(said, key=lambda one: -one.network.length)
    trailing = [comment for parsed in lists for comment in parsed.trailing]
    made = first_match(statements, trailing)
    order = sorted(made.entries, key=lambda entry: (not entry.line, entry.file, entry.line))
    remarks = [remark for parsed in lists for remark in parsed.remarks] + made.remarks
    whole = Parsed([*order, *others], made.trailing, remarks)
    if faults:
        raise BadText(faults, whole)
    return whole


def _network(entry: Entry) -> Network | None:
    family, name = split_key(entry.key)
    try:
        return None if family is None else Network(family, *family.parse_name(name))
    except AddressError:
        return None


def _statement(network: Network, entry: Entry, names: Sequence[str]) -> Statement:
    about = entry.provenance
    if entry.line:
        about = replace(about, note=f"{names[entry.file]}:{entry.line} {about.note}".strip())
    return Statement(network, entry.rule, entry.line, about, entry.file)


def with_default(parsed: Parsed, allow: bool) -> Parsed:
    """Return rules that allow, or deny, all clients that no line decides."""
    kept = [entry for entry in parsed.entries if entry.line]
    keys = {entry.key for entry in kept}
    by_name = any(key.startswith(BY_NAME) for key in keys)
    wanted = [ANY_NAME] if by_name else [family.key(0, 0) for family in Family]
    added = [Entry(key, plain_rule(allow)) for key in wanted if key not in keys]
    return replace(parsed, entries=[*kept, *added])


def without_implied_allows(parsed: Parsed) -> Parsed:
    """Return rules without those that allow clients which no line names: a line that is not there may have denied."""
    return replace(parsed, entries=[entry for entry in parsed.entries if entry.line or not entry.rule.allow])


def without_env(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield rules without their variables."""
    for entry in entries:
        yield replace(entry, rule=replace(entry.rule, env=())) if entry.rule.env else entry


def numbered(parsed: Parsed, first: int) -> Parsed:
    """Return what was read with the numbers of its files counted from `first`."""
    entries = [replace(entry, file=entry.file + first) for entry in parsed.entries]
    remarks = [replace(remark, file=remark.file + first) for remark in parsed.remarks]
    return replace(parsed, entries=entries, remarks=remarks)
