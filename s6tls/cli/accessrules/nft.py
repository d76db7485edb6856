"""What export and sync share: the options of a table for nftables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s6tls.accessrules.text import shown
from s6tls.audit.kernel.denied import denied
from s6tls.audit.kernel.table import Table, update
from s6tls.cli.frame.options import Given, Option, UsageError

if TYPE_CHECKING:
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.kernel.denied import Denied

TABLE = Option("", ("table",), "NAME", "the name of the table, of the family inet")
PORT = Option("", ("port",), "PORT[-PORT],...", "the TCP ports of the service; may be repeated")
UNDECIDED = Option(
    "",
    ("undecided",),
    "pass|drop",
    "what becomes of clients that no rule by address decides: `drop` is for servers with `-H` and rules without names. "
    "Default: `pass`",
)
LOG = Option("", ("log",), None, "count and log whom the rules deny, and drop nobody")
OPTIONS = (TABLE, PORT, UNDECIDED, LOG)

_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]{0,30}")
_PORTS = re.compile(rb"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def table_name(given: Given) -> str:
    """Read --table.  Raises UsageError."""
    name = given.value("table")
    if name is None:
        raise UsageError("no table is named: --table=NAME")
    if not _NAME.fullmatch(name):
        raise UsageError(f"invalid value for --table: {shown(name)} (expected up to 31 letters, digits and _)")
    return name.decode()


def table(given: Given) -> Table:
    """Read --table, --port and --log.  Raises UsageError."""
    name = table_name(given)
    words = [word for value in given.values("port") for word in value.split(b",")]
    if not words:
        raise UsageError("no port is named: --port=PORT, for what is denied is denied at a service")
    return Table(name, _joined(sorted(map(_ports, words))), given.flag("log"))


def denied_by(loaded: LoadedRules, given: Given) -> Denied:
    """Return whom the rules deny, as --undecided says.  Raises UsageError."""
    return denied(loaded, undecided=given.choice("undecided", "pass") == "drop")


def commands(table: Table, loaded: LoadedRules, given: Given) -> str:
    """Return the commands for nft that make a table."""
    return "".join(f"{command}\n" for command in update(table, denied_by(loaded, given)).commands)


def _ports(word: bytes) -> tuple[int, int]:
    found = _PORTS.fullmatch(word)
    if found:
        first, last = int(found[1]), int(found[2] or found[1])
        if 0 < first <= last < 65536:
            return first, last
    raise UsageError(f"invalid value for --port: {shown(word)} (expected ports from 1 to 65535)")


def _joined(ports: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join ranges in order that touch or overlap: nft takes no others."""
    found: list[tuple[int, int]] = []
    for first, last in ports:
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)
