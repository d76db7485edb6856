"""The lists that import reads: their formats, files and options, and what they say together."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s6tls.accessrules.text import decoded, shown
from s6tls.audit.formats import layers
from s6tls.audit.formats.entries import BadText, Diagnostic, Parsed
from s6tls.audit.formats.registry import READERS
from s6tls.cli.accessrules.common import reading
from s6tls.cli.accessrules.formats import daemon_name, known_format
from s6tls.cli.frame.options import Given, Option, UsageError

if TYPE_CHECKING:
    from s6tls.cli.accessrules.formats import Source

_HOSTS = b"/etc/hosts"
_VERDICTS = (b"allow", b"deny")

OPTIONS = (
    "what lists say",
    Option("", ("verdict",), "allow|deny", "what the networks of a list are. Default: `allow`"),
    Option(
        "",
        ("value",),
        "VALUE",
        "the value of those networks in a table of nginx or HAProxy; others get the other verdict. May be repeated. "
        "Default: `1`",
    ),
    Option("", ("column",), "NAME", "the column of a table, by heading or number; `FIRST,LAST` is a range"),
    Option("", ("field",), "NAME", "the field of JSON, such as `prefixes.ip_prefix`. May be repeated"),
    Option("", ("set",), "NAME", "the set of nft or ipset. May be repeated"),
    Option("", ("deny",), "FILE", "the hosts.deny that goes with a hosts.allow"),
    Option(
        "",
        ("daemon",),
        "NAME",
        "the daemon whose lines of hosts.allow and hosts.deny to take. "
        "Without it, a line that is not for `ALL` is refused",
    ),
    Option("", ("local",), "FILE", "the hosts(5) file that has the clients of `LOCAL`. Default: `/etc/hosts`"),
    Option(
        "",
        ("then",),
        "[VERDICT:]FORMAT:FILE",
        "another list, which decides over those before it. May be repeated. Default for VERDICT: that of `--verdict`",
    ),
    "what to make of them",
    Option("", ("else",), "allow|deny", "what happens to clients that no line decides"),
    Option("", ("skip-bad",), None, "leave out lines that are refused, and name them"),
    Option("", ("mask-host-bits",), None, "take `10.0.0.1/8` for `10.0.0.0/8`"),
    Option("", ("drop-env",), None, "leave out variables"),
)


@dataclass(frozen=True)
class List:
    """A file with its format and its verdict; hosts.allow has a second one."""

    format: str
    allow: bool
    paths: list[bytes]


@dataclass(frozen=True)
class Lists:
    """What is read, in its order, and how."""

    found: list[List]
    given: Given

    @property
    def paths(self) -> list[bytes]:
        """All files, in the order in which faults and rules count them."""
        return [path for one in self.found for path in one.paths]

    def parsed(self, sources: list[Source]) -> tuple[Parsed, list[Diagnostic]]:
        """Return what the texts of these files say together, and the lines that were left out.  Raises BadText."""
        made: list[Parsed] = []
        faults: list[Diagnostic] = []
        texts = iter(source.data for source in sources)
        first = 0
        for one in self.found:
            parsed, found = self._read(one, [next(texts) for _ in one.paths])
            made.append(layers.numbered(parsed, first))
            faults += [Diagnostic(fault.line, fault.message, fault.file + first) for fault in found]
            first += len(one.paths)
        if faults and not (self.given.flag("skip-bad") and any(entry.line for one in made for entry in one.entries)):
            raise BadText(faults, Parsed([]))
        whole = made[0] if len(made) == 1 else layers.layered(made, [decoded(path) for path in self.paths])
        return self._finished(whole, bool(faults)), faults

    def _read(self, one: List, texts: list[bytes]) -> tuple[Parsed, list[Diagnostic]]:
        reader = READERS[one.format]
        options = {"verdict": ("allow", one.allow), **self._keywords()}
        wanted = dict(options[name] for name in reader.options if name in options)
        try:
            return reader.read(*texts, **wanted), []
        except BadText as bad:
            return bad.rest, bad.faults

    def _keywords(self) -> dict[str, tuple[str, Any]]:
        """Return the options that formats take: the keyword and the value of each."""
        given = self.given
        return {
            "value": ("values", [decoded(value) for value in given.values("value")]),
            "column": ("columns", decoded(given.value("column", b"")).split(",")),
            "field": ("fields", [decoded(value) for value in given.values("field")]),
            "set": ("names", [decoded(value) for value in given.values("set")]),
            "daemon": ("daemon", daemon_name(given)),
            "local": ("local", _hosts(given)),
            "mask-host-bits": ("mask_host_bits", given.flag("mask-host-bits")),
            "drop-env": ("drop_env", given.flag("drop-env")),
        }

    def _finished(self, parsed: Parsed, incomplete: bool) -> Parsed:
        if otherwise := self.given.choice("else"):
            return layers.with_default(parsed, otherwise == "allow")
        return layers.without_implied_allows(parsed) if incomplete else parsed


def lists_of(given: Given) -> Lists:
    """Return the lists that a command line names.  Raises UsageError."""
    name, source, *_ = given.words
    allow = given.choice("verdict", "allow") == "allow"
    found = [List(known_format(name, READERS), allow, [source, *given.values("deny")[-1:]])]
    found += [_then(value, allow) for value in given.values("then")]
    _check_options(found, given)
    if found[0].format == "table" and not given.flag("column"):
        raise UsageError("a table needs --column")
    return Lists(found, given)


def _then(value: bytes, allow: bool) -> List:
    verdict, colon, rest = value.partition(b":")
    if verdict in _VERDICTS:
        allow, value = verdict == b"allow", rest
    name, colon, path = value.partition(b":")
    if not colon or not path:
        raise UsageError(f"invalid value for --then: {shown(value)} (expected [VERDICT:]FORMAT:FILE)")
    return List(known_format(name, READERS), allow, [path])


def _check_options(found: list[List], given: Given) -> None:
    """Raise UsageError for an option that none of the lists takes."""
    taken = {name for one in found for name in READERS[one.format].options}
    known = {name for reader in READERS.values() for name in reader.options}
    for name in sorted(known - taken - {"drop-env"}):
        if given.flag(name):
            raise UsageError(f"--{name} is not for {' or '.join(sorted({one.format for one in found}))}")
    if given.flag("deny") and found[0].format != "hosts":
        raise UsageError("--deny goes with a hosts.allow that comes first")


def _hosts(given: Given) -> bytes | None:
    path = given.value("local", _HOSTS)
    if path == _HOSTS and not os.path.exists(path):
        return None
    with reading(path), open(path, "rb") as file:
        return file.read()
