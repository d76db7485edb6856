"""s6-accessrules export: from rules to the forms of other programs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded, shown
from s6tls.audit import intervals
from s6tls.audit.core.networks import key_order
from s6tls.audit.formats import cidrlist, haproxy, hostsaccess, nginx, tcprules, text
from s6tls.audit.formats.entries import Entry, Unsayable
from s6tls.cli.accessrules import nft
from s6tls.cli.accessrules.common import JSON, count, load, progress, refuse_overwriting, say_json
from s6tls.cli.accessrules.formats import MOST_FAULTS, check_format, daemon_name, write_text
from s6tls.cli.frame.options import Option, Synopsis, UsageError
from s6tls.cli.frame.program import Failure
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.core.loaded import LoadedRules

SYNOPSIS = Synopsis(
    "s6-accessrules export",
    (
        Option("", ("verdict",), "allow|deny", "whom a list (`cidr`, `haproxy`) is to have. Default: `allow`"),
        Option("", ("daemon",), "NAME", "the daemon that the lines of a hosts.allow are for. Default: `ALL`"),
        "A table for nftables",
        *nft.OPTIONS,
        "Output",
        replace(JSON, help="answer in JSON; it needs OUT, since the text itself goes to stdout without"),
    ),
    "FORMAT RULES [OUT]",
)
FORMATS: dict[bytes, tuple[str, ...]] = {
    **{name.encode(): () for name in intervals.FORMATS},
    b"text": (),
    b"tcprules": (),
    b"hosts": ("daemon",),
    b"cidr": ("verdict",),
    b"nginx": (),
    b"haproxy": ("verdict",),
    b"nft": tuple(option.name for option in nft.OPTIONS),
}


def body(argv: list[bytes]) -> int:
    """Write a rule set in another form."""
    given = SYNOPSIS.read_mixed(argv)
    as_json = given.flag("json")
    name, rules, *optional = given.words
    out = optional[0] if optional else None
    if out is not None:
        refuse_overwriting(rules, out)
    if as_json and out is None:
        raise UsageError("--json tells what is written to OUT: name one")
    format_ = check_format(name, given, FORMATS)
    allow = given.choice("verdict", "allow") == "allow"
    daemon = daemon_name(given) or "ALL"
    wanted = nft.table(given) if format_ == "nft" else None
    with progress() as tell:
        contents = load(rules, tell)
    try:
        if wanted is not None:
            made: str | bytes = nft.commands(wanted, contents, given)
        else:
            made = _made(format_, contents, allow, daemon)
    except Unsayable as unsayable:
        for key, why in unsayable.reasons[:MOST_FAULTS]:
            log(SYNOPSIS.program, "error", f"unable to export {shown(key)}: {why}")
        if as_json:
            refused = [{"rule": decoded(key), "message": why} for key, why in unsayable.reasons]
            say_json({"refused": refused})
        lost = count(len(unsayable.reasons), "rule")
        raise Failure(ExitCode.USAGE, f"unable to export {shown(rules)}: {format_} cannot express {lost}") from None
    write_text(made, out, contents.mode)
    if as_json and out is not None:
        say_json({"out": decoded(out), "format": format_, "rules": len(contents.rules)})
    return 0


def _made(format_: str, contents: LoadedRules, allow: bool, daemon: str) -> str | bytes:
    if format_ in intervals.FORMATS:
        return intervals.written(contents, format_)
    if format_ == "text":
        return text.write(Entry(key, contents.rules[key]) for key in sorted(contents.rules, key=key_order))
    if format_ == "cidr":
        return cidrlist.write(contents, allow=allow)
    if format_ == "haproxy":
        return haproxy.write(contents, allow=allow)
    if format_ == "hosts":
        return hostsaccess.write(contents, daemon=daemon)
    if format_ == "tcprules":
        return tcprules.write(contents)
    return nginx.write(contents)
