"""The source format of tcprules (ucspi-tcp, https://cr.yp.to/ucspi-tcp/tcprules.html).

tcpserver looks for a rule of the whole address, then of its first three, two and one numbers, then of none; of several
with one address the first counts, and with none at all the client is allowed.  It knows IPv4 only.
Between these it asks for ``USER@``, ``=HOST`` and ``=.DOMAIN``, which rules of ours cannot express: a name is asked for
only when no network decides, and matches what is below it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules import record
from s6tls.accessrules.errors import UsageProblem
from s6tls.accessrules.rule import Rule
from s6tls.accessrules.text import shown
from s6tls.audit.core.networks import Family, Network, prefixes
from s6tls.audit.formats.entries import (
    BadText,
    Diagnostic,
    LineError,
    Parsed,
    Statement,
    Statements,
    Unsayable,
    faults_of,
    first_match,
    networks_of,
    plain_rule,
    printable,
    sound,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s6tls.accessrules.rule import Env
    from s6tls.audit.core.loaded import LoadedRules

__all__ = ["parse", "write"]

_NOTHING_MATCHES = Statement(Network(Family.IP4, 0, 0), plain_rule(True))
_QUOTES = [chr(code) for code in (0x22, *range(0x21, 0x7F))]


def parse(data: bytes, *, drop_env: bool = False) -> Parsed:
    """Read rules, or with `drop_env` their verdicts only.  Raises BadText.

    Whoever none of them matches is allowed, and so by the rules, through 0.0.0.0/0.
    """
    levels: list[Statements] = [Statements() for _ in range(5)]
    comments: list[str] = []

    def take(number: int, line: str) -> None:
        line = line.rstrip(" \t")
        if line.startswith("#"):
            comments.append(printable(line[1:]))
        if not line or line.startswith("#"):
            return
        address, colon, instructions = line.partition(":")
        if not colon:
            raise LineError("no colon: tcprules passes over the line")
        rule = _rule(instructions, drop_env)
        level, networks = networks_of_address(address)
        for comment in comments:
            levels[level].comment(comment)
        comments.clear()
        levels[level].say(networks, rule, number)

    if b"\0" in data[:2048]:
        fault = Diagnostic(1, "not the source of tcprules, but maybe what it compiles: import that as tcprules-cdb")
        raise BadText([fault], Parsed([]))
    faults = faults_of(data, take)
    return sound(most_numbers_first(levels, comments), faults)


def most_numbers_first(levels: list[Statements], trailing: Iterable[str] = ()) -> Parsed:
    """Return what rules come to, by how many numbers their addresses have: those with the most are asked for first."""
    return first_match([*(said for level in reversed(levels) for said in level), _NOTHING_MATCHES], trailing)


def _rule(text: str, drop_env: bool) -> Rule:
    allow = text.startswith("allow")
    if not allow and not text.startswith("deny"):
        raise LineError("neither allow nor deny behind the colon")
    rest = text.removeprefix("allow" if allow else "deny")
    env = tuple(_changes(rest))
    if not env or drop_env:
        return plain_rule(allow)
    if not allow:
        raise LineError("a deny sets no variables: leave them out")
    return with_env(env)


def with_env(env: Env) -> Rule:
    """Return a rule that allows and sets variables, the last of one name.  Raises LineError."""
    rule = Rule(True, tuple(dict(env).items()))
    try:
        record.encode(rule)
    except UsageProblem as error:
        raise LineError(str(error)) from error
    return rule


def _changes(text: str) -> Iterator[tuple[bytes, bytes]]:
    while text:
        name, equals, rest = text[1:].partition("=")
        if text[0] != "," or not equals or not rest:
            raise LineError('not ,NAME="value"')
        if not rest[0].isascii():
            raise LineError(f"the value of {shown(name.encode())} starts with a character that is not ASCII")
        value, end, text = rest[1:].partition(rest[0])
        if not end:
            raise LineError(f"the value of {shown(name.encode())} does not end with the character it starts with")
        if not name or "\0" in name + value:
            raise LineError("a variable has no name, or a NUL")
        yield name.encode(), value.encode()


def networks_of_address(address: str) -> tuple[int, list[Network]]:
    """Return how many numbers an address has, and its networks."""
    if "@" in address or "=" in address:
        raise LineError("rules by user or host name: tcpserver asks for these before and between networks")
    if not address:
        return 0, [Network(Family.IP4, 0, 0)]
    words = address.removesuffix(".").split(".")
    level = len(words)
    if level > 4 or (level == 4) == address.endswith("."):
        raise LineError("no address can match it: write 1.2.3.4, or 1.2.3. with a dot for a network")
    ranges = [_range(word) for word in words]
    wide = [index for index, (low, high, dash) in enumerate(ranges) if dash]
    if len(wide) > 1:
        raise LineError("more than one range in an address: tcprules knows one")
    rest = 32 - 8 * level
    if not wide or wide[0] == level - 1:
        base = 0
        for low, _, _ in ranges[:-1]:
            base = base << 8 | low
        low, high, _ = ranges[-1]
        return level, _cut((base << 8 | low) << rest, ((base << 8 | high) + 1) << rest)
    found = []
    low, high, _ = ranges[wide[0]]
    for number in range(low, high + 1):
        base = 0
        for index, (lowest, _, _) in enumerate(ranges):
            base = base << 8 | (number if index == wide[0] else lowest)
        found += _cut(base << rest, base + 1 << rest)
    return level, found


def _cut(start: int, end: int) -> list[Network]:
    return [Network(Family.IP4, number, 32 - free) for number, free in prefixes(start, end)]


def _range(word: str) -> tuple[int, int, str]:
    low, dash, high = word.partition("-")
    numbers = []
    for text in (low, high if dash else low):
        if not (text.isascii() and text.isdigit() and len(text) <= 3 and str(int(text)) == text and int(text) <= 255):
            raise LineError(f"not a number from 0 to 255: {text[:20]!r}")
        numbers.append(int(text))
    if numbers[0] > numbers[1]:
        raise LineError("a range that is empty")
    return numbers[0], numbers[1], dash


def write(loaded: LoadedRules) -> str:
    """Return rules that decide equally, with a last one that denies whom no rule decides.  Raises Unsayable.

    More specific networks come first, since of several rules with one address the first counts.
    """
    lines = []
    reasons = []
    for at, rule in networks_of(loaded, says_env=True, says_ip6=False):
        key = at.family.key(at.number, at.length)
        try:
            lines.append(f"{_address(at)}:{_instructions(rule)}\n")
        except LineError as error:
            reasons.append((key, str(error)))
    if reasons:
        raise Unsayable(reasons)
    return "".join([*lines, ":deny\n"])


def _address(at: Network) -> str:
    level = -(-at.length // 8)
    octets = [str(octet) for octet in at.number.to_bytes(4, "big")[:level]]
    free = 8 * level - at.length
    if free:
        octets[-1] += f"-{int(octets[-1]) + (1 << free) - 1}"
    return ".".join(octets) + ("." if 0 < level < 4 else "")


def _instructions(rule: Rule) -> str:
    words = ["allow" if rule.allow else "deny"]
    for name, value in rule.env:
        try:
            text = (value or b"").decode()
            variable = name.decode()
        except UnicodeDecodeError:
            raise LineError(f"not UTF-8: {shown(name)}") from None
        quote = next((quote for quote in _QUOTES if quote not in text), None)
        if "\n" in text + variable or quote is None:
            raise LineError(f"the format has no quotes for the value of {shown(name)}")
        words.append(f"{variable}={quote}{text}{quote}")
    return ",".join(words)
