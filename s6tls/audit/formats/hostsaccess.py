"""hosts.allow and hosts.deny (hosts_access(5), hosts_options(5) for the options ``allow`` and ``deny``).

The first line that matches decides, those of hosts.allow first; else all are allowed.  Lines apply to a daemon.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.identifiers import normalised
from s6tls.accessrules.keys import ANY_NAME, BY_NAME
from s6tls.audit.core.networks import Family, Network, parse_cidr, prefixes
from s6tls.audit.formats.entries import (
    EVERYTHING,
    Diagnostic,
    Entry,
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.audit.core.loaded import LoadedRules

__all__ = ["parse", "write"]

_LONGEST = 2045  # tcp_wrappers has a buffer of 2048 bytes for a line, with its newline, a NUL, and maybe a CR
_DAEMON = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
_BARE_IP6 = re.compile(r"[0-9a-fA-F]*:[0-9a-fA-F:.]*(?:/[0-9]+)?")
_COLON = re.compile(r":(?![^\[\]]*\])")
_SEPARATOR = re.compile(r"[ \t,]+")
_KEYWORDS = frozenset({"ALL", "EXCEPT", "KNOWN", "LOCAL", "PARANOID", "UNKNOWN"})
_PREFIX = re.compile(r"(?:[0-9]{1,3}\.){1,3}")
_NUMBERS = re.compile(r"[0-9.]+(?:/[0-9.]+)?")
_BRACKETED = re.compile(r"\[([0-9a-fA-F:.]*:[0-9a-fA-F:.]*)\](/[0-9]+)?")


def parse(
    allow: bytes,
    deny: bytes = b"",
    *,
    daemon: str | None = None,
    local: bytes | None = None,
    mask_host_bits: bool = False,
) -> Parsed:
    """Read hosts.allow and hosts.deny, and keep what applies to `daemon`; without one, all lines must be for ``ALL``.

    `local` is the hosts(5) file of the server: ``LOCAL`` is whom it gives a name without a dot.
    Raises BadText; `file` of its faults is 1 for hosts.deny.
    """
    reader = _Reader(daemon, None if local is None else _local_networks(local), mask_host_bits)
    faults: list[Diagnostic] = []
    for file, (data, verdict) in enumerate(((allow, True), (deny, False))):
        lines, unended = _continued(data)
        faults += faults_of(lines, partial(reader.take, file, verdict), file=file)
        if unended:
            faults.append(Diagnostic(unended, "no newline ends the line, so no reader takes it", file))
    faults += reader.check_names()
    refused = faults
    while refused:
        reader.leave_out({(fault.file, fault.line) for fault in refused})
        refused = list(reader.check_names())
    return sound(reader.parsed(), faults)


def _continued(data: bytes) -> tuple[bytes, int]:
    """Join lines that go on in the next one, with empty lines behind them.

    Return also where one begins that has no end, 0 if all have.
    """
    lines: list[bytes] = []
    begun, passed, number, last = b"", 0, 1, 1
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        begun += line
        if line.endswith(b"\\\n"):
            begun, passed = begun[:-2], passed + 1
        else:
            lines += [begun, b"\n" * passed]
            last, number = number, number + passed + 1
            begun, passed = b"", 0
    unended = number if passed else 0 if data[-1:] in (b"", b"\n") else last
    return b"".join([*lines, begun]), unended


def _local_networks(hosts: bytes) -> list[Network]:
    """Return the addresses that a hosts(5) file gives a name without a dot; the first line of an address counts."""
    names: dict[Network, bytes] = {}
    for line in hosts.splitlines():
        words = line.partition(b"#")[0].split()
        if len(words) > 1 and words[0].isascii():
            with contextlib.suppress(AddressError):
                names.setdefault(parse_cidr(words[0].decode()), words[1])
    return [at for at, name in names.items() if b"." not in name]


def is_daemon(word: str) -> bool:
    """Tell whether a word is ``ALL`` or the name of a daemon, and no other pattern."""
    return word == "ALL" or (word.upper() not in _KEYWORDS and _DAEMON.fullmatch(word) is not None)


class _Reader:
    def __init__(self, daemon: str | None, local: list[Network] | None, mask_host_bits: bool) -> None:
        self._daemon = daemon
        self._local = local
        self._mask_host_bits = mask_host_bits
        self._statements = Statements()
        self._names: dict[str, tuple[int, int, bool]] = {}

    def take(self, file: int, verdict: bool, number: int, line: str) -> None:
        """Take a line.  Raises LineError."""
        if len(line.encode()) > _LONGEST:
            raise LineError(f"line takes more than {_LONGEST} bytes, which no reader of the file takes")
        if not line.replace("\t", " ").isprintable():
            raise LineError("control characters")
        if line.endswith("\\"):
            raise LineError("a backslash, and no newline right behind it")
        if line.startswith("#"):
            self._statements.comment(line[1:])
        if not line.strip() or line.startswith("#"):
            return
        if not line.isascii():
            raise LineError("characters that are not ASCII")
        _refuse_bare_ip6(line)
        parts = [part.strip(" \t") for part in _COLON.split(line)]
        if len(parts) < 2:
            raise LineError("not DAEMONS : CLIENTS")
        if len(parts) > 3:
            raise LineError("more than one option")
        for option in parts[2:]:
            if option.lower() not in ("allow", "deny"):
                raise LineError(f"rules cannot express this option: {option!r}")
            verdict = option.lower() == "allow"
        daemons, clients = (_words(part) for part in parts[:2])
        if self._applies(daemons):
            names, networks = self._clients(clients)
            self._statements.say(networks, plain_rule(verdict), number, file=file)
            for name in names:
                self._names.setdefault(name, (number, file, verdict))

    def _applies(self, daemons: list[str]) -> bool:
        for word in daemons:
            if word != "EXCEPT" and not is_daemon(word):
                raise LineError(f"not the name of a daemon: {word!r}")
        if self._daemon is None and daemons != ["ALL"]:
            raise LineError("the line is not for ALL daemons: name one")
        return _listed(self._daemon or "", daemons)

    def leave_out(self, lines: set[tuple[int, int]]) -> None:
        """Forget lines, of which the files and numbers are given."""
        self._statements[:] = [said for said in self._statements if (said.file, said.line) not in lines]
        self._names = {
            name: (line, file, verdict)
            for name, (line, file, verdict) in self._names.items()
            if (file, line) not in lines
        }

    def check_names(self) -> Iterator[Diagnostic]:
        """Yield why lines with names cannot be said.

        Rules ask for names where no network decides, and match what is below a name too.  That comes to the same if
        names are only allowed, with and without the dot, and then all others are denied.
        """
        denying = [said for said in self._statements if not said.rule.allow]
        denied = {said.network for said in denying}
        allowed = [(said.file, said.line) for said in self._statements if said.rule.allow]
        allowed += [(file, line) for line, file, _ in self._names.values()]
        is_last = max(allowed, default=(0, 0)) < min(((said.file, said.line) for said in denying), default=(0, 0))
        for name, (line, file, verdict) in self._names.items():
            if not verdict:
                why = "a name that is denied lets in clients whose name cannot be found out"
            elif denied != set(EVERYTHING) or not is_last:
                why = "rules by name count only where no network decides: deny ALL behind it, and nothing else"
            elif name.startswith(".") and name[1:] not in self._names:
                why = f"a rule by name would match {name[1:]} itself too: list that as well"
            elif not name.startswith(".") and f".{name}" not in self._names:
                why = f"a rule by name would match names below it too: list .{name} as well"
            else:
                continue
            yield Diagnostic(line, f"{name}: {why}", file)

    def parsed(self) -> Parsed:
        """Return the rules."""
        if not self._names:
            everybody = (Statement(at, plain_rule(True)) for at in EVERYTHING)
            return first_match([*self._statements, *everybody], self._statements.comments)
        denials = (said.about.comments for said in self._statements if not said.rule.allow)
        trailing = [*chain.from_iterable(denials), *self._statements.comments]
        parsed = first_match((said for said in self._statements if said.rule.allow), trailing)
        for name, (line, file, _) in self._names.items():
            if not name.startswith("."):
                parsed.entries.append(Entry(BY_NAME + name.encode(), plain_rule(True), line=line, file=file))
        last = next(said for said in self._statements if not said.rule.allow)
        parsed.entries.append(Entry(ANY_NAME, plain_rule(False), line=last.line, file=last.file))
        return parsed

    def _clients(self, words: list[str]) -> tuple[list[str], list[Network]]:
        """Return the names and the networks of a list of clients."""
        first, rest = _split_except(words)
        names, networks = [], []
        for word in first:
            found = self._networks(word)
            if found or word == "LOCAL":
                networks += found
            else:
                names.append(word.lower())
        if not rest:
            return names, networks
        more_names, without = self._clients(rest)
        if names or more_names:
            raise LineError("rules cannot express EXCEPT with names")
        return [], [piece for at in networks for piece in _cut(at, without)]

    def _networks(self, word: str) -> list[Network]:
        """Return the networks of a pattern; none for that of a name."""
        if word == "ALL":
            return EVERYTHING
        if word == "LOCAL":
            if self._local is None:
                raise LineError(
                    "LOCAL is for clients with a name without a dot: the hosts file that has these is not given"
                )
            return self._local
        if word.startswith("["):
            bracketed = _BRACKETED.fullmatch(word)
            if bracketed is None:
                raise LineError(f"not [ADDRESS]/LENGTH: {word}")
            return [not_mapped(self._network(bracketed[1] + (bracketed[2] or "")))]
        if _PREFIX.fullmatch(word):
            numbers = word.split(".")[:-1]
            return [parse_cidr(".".join([*numbers, *["0"] * (4 - len(numbers))]) + f"/{8 * len(numbers)}")]
        if _NUMBERS.fullmatch(word):
            if re.search(r"/(?:0+|255\.255\.255\.255)$", word):
                raise LineError(
                    f"no client matches {word}: 0.0.0.0/0.0.0.0 is all of IPv4, and one address has no mask"
                )
            return [self._network(word)]
        name = word.removeprefix(".").lower().encode()
        if word in _KEYWORDS or normalised(name) != name:
            raise LineError(f"rules cannot express this pattern: {word!r}")
        return []

    def _network(self, text: str) -> Network:
        return network(text, mask_host_bits=self._mask_host_bits)


def _refuse_bare_ip6(line: str) -> None:
    """Raise LineError for an IPv6 address without brackets, of which each colon would end a field."""
    for word in _SEPARATOR.split(line.partition(":")[2]):
        address, slash, length = word.partition("/")
        if _BARE_IP6.fullmatch(word) and len(address) > 2:
            with contextlib.suppress(AddressError):
                parse_cidr(address)
                raise LineError(f"an IPv6 address stands in brackets: write [{address}]{slash}{length}")


def _words(part: str) -> list[str]:
    """Return the words of a list; keywords may be in lower case too.  Raises LineError if there is none."""
    words = [word.upper() if word.upper() in _KEYWORDS else word for word in _SEPARATOR.split(part) if word]
    if not words:
        raise LineError("an empty list")
    return words


def _listed(daemon: str, words: list[str]) -> bool:
    first, rest = _split_except(words)
    return any(word == "ALL" or word.lower() == daemon.lower() for word in first) and not (
        rest and _listed(daemon, rest)
    )


def _split_except(words: list[str]) -> tuple[list[str], list[str]]:
    if "EXCEPT" not in words:
        return words, []
    at = words.index("EXCEPT")
    if at in (0, len(words) - 1):
        raise LineError("EXCEPT stands between two lists")
    return words[:at], words[at + 1 :]


def _cut(at: Network, without: list[Network]) -> Iterator[Network]:
    """Yield the networks that remain of one."""
    start, end = at.range
    for low, high in sorted(other.range for other in without if other.family is at.family):
        if low < end and start < high:
            yield from _between(at.family, start, low)
            start = high
    yield from _between(at.family, start, end)


def _between(family: Family, start: int, end: int) -> Iterator[Network]:
    for number, free in prefixes(start, end):
        yield Network(family, number, family.bits - free)


def write(loaded: LoadedRules, *, daemon: str = "ALL") -> str:
    """Return a hosts.allow that decides equally, by the options allow and deny, and denies whom no rule decides.

    Raises Unsayable.
    """
    networks = networks_of(loaded, says_mapped=False)
    lines = [f"{daemon} : {_pattern(at)} : {'allow' if rule.allow else 'deny'}\n" for at, rule in networks]
    return "".join([*lines, f"{daemon} : ALL : deny\n"])


def _pattern(at: Network) -> str:
    if at.family is Family.IP6:
        return f"[{at.family.text(at.number)}]/{at.length}"
    if at.length == 32:
        return at.family.text(at.number)  # 255.255.255.255 is no mask there
    mask = 0xFFFFFFFF >> 32 - at.length << 32 - at.length
    return f"{at.family.text(at.number)}/{at.family.text(mask)}"
