"""HAProxy's pattern files of addresses: those of ``acl NAME src -f FILE`` (Configuration Manual, 7.1.2 and 7.1.4).

One address or network a line; a line that starts with ``#`` is a comment.

A pattern of one family matches clients of the other too.  An IPv6 client that stands for an IPv4 one by 6to4
(``2002::/16``), or is IPv4-compatible (``::/96``) or IPv4-mapped (``::ffff:0:0/96``), matches what that one matches; an
IPv4 client matches what its IPv4-mapped address matches.  So an IPv4-mapped network is the one way to write IPv4
clients and no others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family, Network, joined, parse_cidr, prefixes
from s6tls.audit.formats import cidrlist
from s6tls.audit.formats.entries import (
    MAPPED,
    LineError,
    Parsed,
    Statements,
    faults_of,
    first_match,
    network,
    networks_of,
    plain_rule,
    sound,
    widest_first,
)
from s6tls.audit.formats.values import rule_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.networks import Range

__all__ = ["parse", "parse_map", "write"]

_LONGEST = 16_000  # HAProxy has a buffer of 16384 bytes for a line, and takes the rest of a longer one for another line
_SIX_TO_FOUR, _COMPATIBLE = parse_cidr("2002::/16"), parse_cidr("::/96")


def parse(data: bytes, *, allow: bool = True, mask_host_bits: bool = False) -> Parsed:
    """Read a file whose networks are all allowed, or all denied.  Raises BadText."""
    statements = Statements()
    rule = plain_rule(allow)

    def take(number: int, line: str) -> None:
        text = pattern(line, statements)
        if text:
            say(statements, network(text, mask_host_bits=mask_host_bits), rule, number)

    faults = faults_of(data, take)
    return sound(widest_first(statements, statements.comments), faults)


def parse_map(data: bytes, *, allow: bool = True, values: Collection[str] = (), mask_host_bits: bool = False) -> Parsed:
    """Read a map of addresses, that of ``src,map_ip(FILE)``: clients with one of these values are allowed, or denied.

    The most specific network of the client's own family counts, else that of the other one.  Raises BadText.
    """
    statements = Statements()
    ranks: list[tuple[bool, int]] = []

    def take(number: int, line: str) -> None:
        text, _, value = pattern(line, statements).replace("\t", " ").partition(" ")
        if not text:
            return
        if not value.strip():
            raise LineError("an address without a value")
        at = network(text, mask_host_bits=mask_host_bits)
        rule = rule_of(value.strip(), allow, values)
        say(statements, at, rule, number)
        ranks.extend((said.network.family is not at.family, -at.length) for said in statements[len(ranks) :])

    faults = faults_of(data, take)
    order = sorted(range(len(ranks)), key=ranks.__getitem__)
    return sound(first_match((statements[place] for place in order), statements.comments), faults)


def pattern(line: str, statements: Statements) -> str:
    """Return a line without blanks before it, or ``""`` for one without a pattern.  Raises LineError."""
    if len(line.encode()) > _LONGEST:
        raise LineError(f"line takes more than {_LONGEST} bytes, which HAProxy takes for two")
    if not line.replace("\t", " ").isprintable():
        raise LineError("control characters")
    if line.startswith("#"):
        statements.comment(line[1:])
        return ""
    text = line.lstrip(" \t")
    if "#" in text:
        raise LineError("a comment has a line of its own, and its # stands first")
    return text


def say(statements: Statements, at: Network, rule: Rule, number: int) -> None:
    """Add what a pattern says of all clients that it matches."""
    for matched, why in _matched(at):
        statements.say([matched], rule, number, why, implied=bool(why))


def _matched(at: Network) -> Iterator[tuple[Network, str]]:
    """Yield the networks whose clients a pattern matches, and ``""`` or why it does."""
    family, number, length = at
    if family is Family.IP4:
        yield at, ""
        yield Network(Family.IP6, _SIX_TO_FOUR.number | number << 80, length + 16), f"6to4 clients of {at}"
        yield Network(Family.IP6, _COMPATIBLE.number | number, length + 96), f"IPv4-compatible clients of {at}"
        return
    (start, end), (first, last) = at.range, MAPPED.range
    if first <= start < last:
        yield Network(Family.IP4, number - first, length - 96), ""
    else:
        yield at, ""
        if start <= first < end:
            yield Network(Family.IP4, 0, 0), f"IPv4 clients of {at}"


def write(loaded: LoadedRules, *, allow: bool = True, families: Collection[Family] = tuple(Family)) -> str:
    """Return a list as `cidrlist.write` does, with IPv4-mapped networks for IPv4 clients.  Raises Unsayable."""
    networks_of(loaded, says_mapped=False)
    first, last = MAPPED.range
    ip4, ip6 = [cidrlist.clients(loaded, family, allow) if family in families else [] for family in Family]
    ranges = [(first + start, first + end) for start, end in ip4]
    for start, end in ip6:
        ranges += [piece for piece in ((start, min(end, first)), (max(start, last), end)) if piece[0] < piece[1]]
    return "".join(f"{line}\n" for line in _patterns(ranges))


def _patterns(ranges: list[Range]) -> Iterator[str]:
    first, last = MAPPED.range
    for start, end in joined(sorted(ranges)):
        for number, free in prefixes(start, end):
            length = Family.IP6.bits - free
            if first <= number < last and length >= MAPPED.length:
                yield f"::ffff:{Family.IP4.text(number - first)}/{length}"
            else:
                yield Family.IP6.cidr(number, length)
