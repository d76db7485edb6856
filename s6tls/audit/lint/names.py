"""What the names of rules show: those that no lookup can ask for, and families that no server asks."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.hostnames import normalised
from s6tls.accessrules.ids import HIGHEST, BadId, parse_id
from s6tls.accessrules.text import shown
from s6tls.audit.core.networks import Family, InexactName
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.lint.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from s6tls.audit.core.loaded import LoadedRules

FAMILIES = (b"ip4", b"ip6", b"reversedns", b"uid", b"gid")
_ADDRESS_FAMILIES = {family.value.encode(): family for family in Family}


class Problem(NamedTuple):
    """Why no lookup can ask for a rule of this name, and what to call it instead."""

    code: str
    message: str
    remedy: str


def findings(loaded: LoadedRules, can_match: Collection[bytes] = (), progress: Progress = silent) -> Iterator[Finding]:
    """Yield an error for each rule that can never match, and a warning for each family that is not looked into.

    `can_match` are keys of which it is known that they can.
    """
    strangers: Counter[bytes] = Counter()
    for key in counted(loaded.rules, "names looked at", progress):
        if key in can_match:
            continue
        family, slash, name = key.partition(b"/")
        if not slash:
            yield Finding("not-a-key", Severity.ERROR, key, "can never match: it has no family", "remove it")
        elif family not in FAMILIES:
            strangers[family] += 1
        elif found := problem(family, name):
            yield Finding(found.code, Severity.ERROR, key, f"can never match: {found.message}", found.remedy)
    for family, count in strangers.items():
        yield _unknown(family, count)


def problem(family: bytes, name: bytes) -> Problem | None:
    """Tell why a rule of this name in this family can never match; None if it can, or the family is unknown."""
    if family in _ADDRESS_FAMILIES:
        return _network_problem(_ADDRESS_FAMILIES[family], name)
    if family == b"reversedns":
        return _host_name_problem(name)
    if family in (b"uid", b"gid"):
        return _id_problem(family, name)
    return None


def _network_problem(family: Family, name: bytes) -> Problem | None:
    try:
        family.parse_name(name)
    except InexactName as error:
        if error.host_bits:
            return Problem("host-bits", "bits are set behind the prefix", str(error))
        return Problem("not-canonical", "it is not the text that lookups ask for", str(error))
    except AddressError as error:
        return Problem("not-a-network", str(error), "name it ADDRESS_LENGTH, after a network, or remove it")
    return None


def _host_name_problem(name: bytes) -> Problem | None:
    """Compare a name with what a server makes of a client's, which it drops if that is no host name."""
    if name in (b"@", normalised(name)):
        return None
    better = normalised(name.removeprefix(b"*").strip(b"."))
    if better is not None:
        return Problem("not-canonical", "lookups ask for it in other words", f"write it as {shown(better)}")
    return Problem("not-a-host-name", "no host has such a name", "name it after a host or a domain, or remove it")


def _id_problem(family: bytes, name: bytes) -> Problem | None:
    if name == b"self" or (family == b"uid" and name == b"default"):
        return None
    also = "self or default" if family == b"uid" else "self"
    try:
        exact = b"%d" % parse_id(name)
    except BadId:
        message = f"it is neither a number from 0 to {HIGHEST} nor {also}"
        return Problem("not-an-id", message, "write the number, or remove it")
    if exact != name:
        return Problem("not-an-id", "lookups ask for it in other words", f"write it as {shown(exact)}")
    return None


def _unknown(family: bytes, count: int) -> Finding:
    known = [name.decode() for name in FAMILIES]
    close = difflib.get_close_matches(shown(family).lower(), known, n=1)
    rules = f"{count:,} rule{'s' if count > 1 else ''}"
    return Finding(
        "unknown-family",
        Severity.WARNING,
        None,
        f"no server looks into the family {shown(family)}, which has {rules}",
        f"did you mean {close[0]}?" if close else f"the families are {', '.join(known)}",
    )
