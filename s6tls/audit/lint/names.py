"""What the names of rules show: those that no lookup can ask for, and families that no server asks."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.identifiers import HIGHEST, BadId, normalised, parse_id
from s6tls.accessrules.keys import BY_NAME
from s6tls.accessrules.text import shown
from s6tls.audit.core.networks import Family, InexactName, family_name, split_key
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.lint.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from s6tls.audit.core.loaded import LoadedRules

_MAPPED = b"ip6/::ffff:"
"""What all rules within ``::ffff:0:0/96`` (RFC 4291, 2.5.5.2) begin with, and few others."""
_MAPPED_LENGTH = 96
_FAMILIES = (b"ip4", b"ip6", b"reversedns", b"uid", b"gid")


def findings(loaded: LoadedRules, can_match: Collection[bytes] = (), progress: Progress = silent) -> Iterator[Finding]:
    """Yield an error for each rule that can never match, and a warning for each family that is not looked into.

    `can_match` are keys of which it is known that they can.
    """
    strangers: Counter[bytes] = Counter()
    for key in counted(loaded.rules, "names looked at", progress):
        if found := unheard_of(key):
            yield found.at(key)
        elif key in can_match:
            continue
        elif found := unmatchable(key):
            yield found.at(key)
        elif family_name(key) not in _FAMILIES:
            strangers[family_name(key)] += 1
    for family, count in strangers.items():
        yield _unknown(family, count)


def unheard_of(key: bytes) -> Finding | None:
    """Return why no server asks for a rule, although its name is that of a network: no client has such an address."""
    if not key.startswith(_MAPPED):
        return None
    try:
        number, length = Family.IP6.parse_name(split_key(key)[1])
    except AddressError:
        return None
    if length < _MAPPED_LENGTH or number >> 32 != 0xFFFF:
        return None
    name = Family.IP4.key(number & 0xFFFFFFFF, length - _MAPPED_LENGTH).decode()
    return _never("mapped-network", "whoever has such an address is an IPv4 client", f"name it {name}")


def unmatchable(key: bytes) -> Finding | None:
    """Return why a rule with this key can never match; None if it can, or if its family is unknown."""
    family, name = split_key(key)
    if family is not None:
        return _network(family, name)
    if b"/" not in key:
        return _never("not-a-key", "it has no family", "remove it")
    if key.startswith(BY_NAME):
        return _host_name(name)
    if family_name(key) in (b"uid", b"gid"):
        return _id(family_name(key), name)
    return None


def _never(code: str, why: str, remedy: str) -> Finding:
    return Finding(code, Severity.ERROR, f"can never match: {why}", remedy)


def _network(family: Family, name: bytes) -> Finding | None:
    try:
        family.parse_name(name)
    except InexactName as error:
        if error.host_bits:
            return _never("host-bits", "bits are set beyond the prefix", str(error))
        return _never("not-canonical", "it is not the text that lookups ask for", str(error))
    except AddressError as error:
        return _never("not-a-network", str(error), "name it ADDRESS_LENGTH, after a network, or remove it")
    return None


def _host_name(name: bytes) -> Finding | None:
    """Compare a name with what a server makes of a client's, which it drops if that is no host name."""
    if name in (b"@", normalised(name)):
        return None
    better = normalised(name.removeprefix(b"*").strip(b"."))
    if better is not None:
        return _never("not-canonical", "lookups ask for it in other words", f"write it as {shown(better)}")
    return _never("not-a-host-name", "no host has such a name", "name it after a host or a domain, or remove it")


def _id(family: bytes, name: bytes) -> Finding | None:
    if name == b"self" or (family == b"uid" and name == b"default"):
        return None
    also = "self or default" if family == b"uid" else "self"
    try:
        exact = b"%d" % parse_id(name)
    except BadId:
        why = f"it is neither a number from 0 to {HIGHEST} nor {also}"
        return _never("not-an-id", why, "write the number, or remove it")
    if exact != name:
        return _never("not-an-id", "lookups ask for it in other words", f"write it as {shown(exact)}")
    return None


def _unknown(family: bytes, count: int) -> Finding:
    known = [name.decode() for name in _FAMILIES]
    close = difflib.get_close_matches(shown(family).lower(), known, n=1)
    rules = f"{count:,} rule{'s' if count > 1 else ''}"
    return Finding(
        "unknown-family",
        Severity.WARNING,
        f"no server looks into the family {shown(family)}, which has {rules}",
        f"did you mean {close[0]}?" if close else f"the families are {', '.join(known)}",
    )
