"""What rules do to each other: those that change nothing, those that nobody reaches, and whom none decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.keys import ANY_NAME, name_keys
from s6tls.accessrules.text import shown
from s6tls.audit.core.networks import Family, family_name, split_key
from s6tls.audit.core.partition import NO_RULE
from s6tls.audit.lint.findings import Finding, Severity
from s6tls.audit.lint.names import unheard_of, unmatchable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.partition import Partition


def findings(loaded: LoadedRules, partitions: Mapping[Family, Partition]) -> Iterator[Finding]:
    """Yield what comes of which rule decides which client; each finding holds with all other rules in place."""
    undecided: dict[Family, int] = {}
    for family, partition in partitions.items():
        decided = partition.decided()
        undecided[family] = decided[NO_RULE]
        yield from _within(partition, decided)
    names = _able_to_match(loaded, b"reversedns")
    if any(undecided.values()):
        yield from _equal_names(loaded, names)
    else:
        yield from map(_unreachable, names)
    yield from _equal_ids(loaded)
    if any(map(len, partitions.values())) and lets_nobody_in(loaded):
        message = "let nobody in: no rule that can match allows anybody"
        remedy = "allow clients, or if these are the denied ones, add ip4/0.0.0.0_0 and ip6/::_0 to allow all others"
        yield Finding("lets-nobody-in", Severity.WARNING, message, remedy)
    if any(map(len, partitions.values())):
        yield from _undecided(undecided, bool(names))
    yield from _no_default(loaded, names)


def lets_nobody_in(loaded: LoadedRules) -> bool:
    """Tell whether rules by address allow no address, and there are no others that allow."""
    by_address = set()
    for family in Family:
        partition = loaded.partition(family)
        by_address.update(partition.keys)
        if any(count and rule.allow for count, rule in zip(partition.decided(), partition.rules, strict=False)):
            return False
    return not any(rule.allow for key, rule in loaded.rules.items() if key not in by_address)


def _within(partition: Partition, decided: list[int]) -> Iterator[Finding]:
    """Yield the rules that lie within an equal one, and those that others, within them, leave nothing to."""
    parents, rules = partition.parents(), partition.rules
    equal = [parent != NO_RULE and rules[parent] == rule for parent, rule in zip(parents, rules, strict=True)]
    repeated = {parent for parent, same in zip(parents, equal, strict=True) if same}
    for index, key in enumerate(partition.keys):
        if unheard_of(key):
            continue
        if not decided[index]:
            remedy = "remove it, or those of them that only repeat it" if index in repeated else "remove it"
            yield Finding(
                "shadowed", Severity.WARNING, "decides nothing: more specific rules cover all of it", remedy, key
            )
        elif equal[index]:
            yield _redundant(key, partition.keys[parents[index]])


def _redundant(key: bytes, wider: bytes) -> Finding:
    message = f"changes nothing: {shown(wider)}, the next to be asked, decides equally"
    return Finding("redundant", Severity.NOTE, message, "remove it", key)


def _able_to_match(loaded: LoadedRules, family: bytes) -> list[bytes]:
    return [key for key in loaded.rules if family_name(key) == family and not unmatchable(key)]


def _equal_names(loaded: LoadedRules, names: list[bytes]) -> Iterator[Finding]:
    rules = loaded.rules
    for key in names:
        wider = (other for other in name_keys(split_key(key)[1]) if other in rules and other != key)
        nearest = next(wider, None) if key != ANY_NAME else None
        if nearest is not None and rules[nearest] == rules[key]:
            yield _redundant(key, nearest)


def _unreachable(key: bytes) -> Finding:
    return Finding(
        "unreachable",
        Severity.WARNING,
        "is never asked for: rules by address decide every client before its name is looked at",
        "remove it, or the rules that match every address",
        key,
    )


def _equal_ids(loaded: LoadedRules) -> Iterator[Finding]:
    """Yield rules for users and groups that ``uid/default``, with nothing between, repeats.

    Rules for groups stand between a user and the default; those for ``self`` stand for an id that nobody knows here.
    """
    rules, last = loaded.rules, b"uid/default"
    default = rules.get(last)
    if default is None:
        return
    users, groups = _able_to_match(loaded, b"uid"), _able_to_match(loaded, b"gid")
    for key in groups if groups else users:
        if key not in (last, b"uid/self", b"gid/self") and rules[key] == default:
            yield _redundant(key, last)


def _undecided(undecided: dict[Family, int], any_name: bool) -> Iterator[Finding]:
    for family, other in ((Family.IP4, Family.IP6), (Family.IP6, Family.IP4)):
        count, this = undecided[family], family.label
        if not count:
            continue
        open_ = (
            f"all {this} addresses are"
            if count == family.size
            else f"{count:,} {this} address{'es are' if count > 1 else ' is'}"
        )
        remedy = f"add {family.key(0, 0).decode()}, to deny or to allow"
        if not undecided[other]:
            message = f"every {other.label} address is decided, but {open_} undecided"
            yield Finding("family-undecided", Severity.WARNING, message, remedy)
        elif not any_name:
            message = f"no catch-all: {open_} undecided, and denied, for no rule goes by name"
            yield Finding("no-catch-all", Severity.NOTE, message, remedy)


def _no_default(loaded: LoadedRules, names: list[bytes]) -> Iterator[Finding]:
    if names and ANY_NAME not in loaded.rules:
        message = "no catch-all: clients whose names no rule has are denied"
        yield Finding("no-catch-all", Severity.NOTE, message, "add reversedns/@, to deny or to allow")
    if (_able_to_match(loaded, b"uid") or _able_to_match(loaded, b"gid")) and b"uid/default" not in loaded.rules:
        message = "no catch-all: local clients whose user and group no rule has are denied"
        yield Finding("no-catch-all", Severity.NOTE, message, "add uid/default, to deny or to allow")
