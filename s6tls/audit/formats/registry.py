"""The formats by name: what each is, where its reader and its writer are, and which options these take.

Options are named as on the command line.  Modules are loaded when they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.formats.entries import Parsed


@dataclass(frozen=True)
class Format:
    """A format in one direction: a line about it, a function in a module below this package, and its options."""

    about: str
    module: str
    options: tuple[str, ...]
    function: str

    def load(self) -> Callable[..., Any]:
        """Return its function."""
        found: Callable[..., Any] = getattr(import_module(f"s6tls.audit.formats.{self.module}"), self.function)
        return found


class Reader(Format):
    """A format that is read; it takes the texts of files."""

    def __init__(self, about: str, module: str, *options: str, function: str = "parse") -> None:
        """Name the module and the options."""
        super().__init__(about, module, options, function)

    def read(self, *texts: bytes, **options: Any) -> Parsed:
        """Return what texts say.  Raises BadText."""
        parsed: Parsed = self.load()(*texts, **options)
        return parsed


class Writer(Format):
    """A format that is written."""

    def __init__(self, about: str, module: str, *options: str, function: str = "write") -> None:
        """Name the module and the options."""
        super().__init__(about, module, options, function)

    def write(self, loaded: LoadedRules, **options: Any) -> bytes:
        """Return rules in this format.  Raises Unsayable."""
        made: str | bytes = self.load()(loaded, **options)
        return made.encode() if isinstance(made, str) else made


_MASK = "mask-host-bits"
_LIST = ("verdict", _MASK)

READERS = {
    "text": Reader("our own text form", "text"),
    "tcprules": Reader("the source of tcprules (ucspi-tcp)", "tcprules", "drop-env"),
    "tcprules-cdb": Reader("what tcprules compiles", "tcprulescdb", "drop-env"),
    "hosts": Reader("hosts.allow, and with --deny hosts.deny too", "hostsaccess", "deny", "daemon", "local", _MASK),
    "cidr": Reader("one network or address per line", "cidrlist", *_LIST),
    "ranges": Reader("ranges FIRST-LAST, or FIRST and LAST in two columns; networks too", "lists.ranges", *_LIST),
    "table": Reader("a column of a table: CSV, TSV, or between blanks", "lists.tables", "column", *_LIST),
    "json": Reader("JSON or JSON lines: Spamhaus, AWS, Google, Azure, GitHub", "lists.jsonlists", "field", *_LIST),
    "nginx": Reader("nginx's allow and deny", "nginx", _MASK),
    "nginx-geo": Reader("nginx's geo", "web.nginxtables", "value", *_LIST, function="parse_geo"),
    "nginx-map": Reader("nginx's map of addresses", "web.nginxtables", "value", "verdict", function="parse_map"),
    "apache": Reader("Apache's Require, or Order, Allow from and Deny from", "web.apache", _MASK),
    "haproxy": Reader("the file of an acl of HAProxy, src -f FILE", "haproxy", *_LIST),
    "haproxy-map": Reader("the file of HAProxy's map_ip", "haproxy", "value", *_LIST, function="parse_map"),
    "nft": Reader("nft: chains, or sets of addresses", "nft", "set", *_LIST),
    "ipset": Reader("ipset save", "firewall.ipset", "set", *_LIST),
    "iptables": Reader("iptables-save, ip6tables-save", "firewall.iptables", _MASK),
}

WRITERS = {
    "text": Writer("our own text form", "text", function="write_loaded"),
    "tcprules": Writer("the source of tcprules (ucspi-tcp)", "tcprules"),
    "hosts": Writer("a hosts.allow", "hostsaccess", "daemon"),
    "cidr": Writer("the fewest networks", "cidrlist", "verdict", "family"),
    "ranges": Writer("the fewest ranges FIRST-LAST", "lists.ranges", "verdict", "family"),
    "json": Writer("an array of the fewest networks", "lists.jsonlists", "verdict", "family"),
    "nginx": Writer("nginx's allow and deny", "nginx"),
    "apache": Writer("Apache's Require", "web.apache"),
    "haproxy": Writer("the file of an acl of HAProxy, src -f FILE", "haproxy", "verdict", "family"),
    "nft": Writer("sets for nft -f, or with --table a whole table", "nft", "verdict", "family"),
    "ipset": Writer("sets for ipset restore", "firewall.ipset", "verdict", "family"),
    "csv": Writer("a table of intervals", "intervaltables", function="write_csv"),
    "arrow": Writer("a table of intervals, as a file of Arrow", "intervaltables", function="write_arrow"),
    "parquet": Writer("a table of intervals", "intervaltables", function="write_parquet"),
    "kubernetes": Writer("a NetworkPolicy with ipBlock", "web.kubernetes", "family"),
}
