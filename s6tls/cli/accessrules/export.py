"""s6-accessrules export: from rules to the forms of other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded, shown
from s6tls.audit.formats import cidrlist, haproxy, hostsaccess, nginx, tcprules, text
from s6tls.audit.formats.entries import Entry, Unsayable
from s6tls.cli.accessrules.common import JSON, count, load, progress, say_json, spare
from s6tls.cli.accessrules.formats import MOST_FAULTS, allowing, daemon_name, suits, write_text
from s6tls.cli.frame.options import Option, Synopsis, UsageError
from s6tls.cli.frame.program import USAGE, Failure
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.core.loaded import LoadedRules

SYNOPSIS = Synopsis(
    "s6-accessrules export",
    (
        Option("", ("verdict",), "allow|deny", "whom a list is to have (default: allow)"),
        Option("", ("daemon",), "NAME", "the daemon that the lines of a hosts.allow are for (default: ALL)"),
        JSON,
    ),
    "FORMAT RULES [OUT]",
)
FORMATS: dict[bytes, tuple[str, ...]] = {
    b"text": (),
    b"tcprules": (),
    b"hosts": ("daemon",),
    b"cidr": ("verdict",),
    b"nginx": (),
    b"haproxy": ("verdict",),
}


def body(argv: list[bytes]) -> int:
    """Write a rule set in another form."""
    options, words = SYNOPSIS.parse_mixed(argv)
    if len(words) not in (2, 3):
        raise UsageError
    chosen = dict(options)
    as_json = "json" in chosen
    rules, out = words[1], words[2] if len(words) == 3 else None
    if out is not None:
        spare(rules, out)
    if as_json and out is None:
        raise UsageError("--json tells what is written to OUT: name one")
    format_ = suits(words[0], chosen, FORMATS)
    allow = allowing(chosen.get("verdict", b"allow"))
    daemon = daemon_name(chosen.get("daemon", b"ALL"))
    with progress() as tell:
        contents = load(rules, tell)
    try:
        made = _made(format_, contents, allow, daemon)
    except Unsayable as unsayable:
        for key, why in unsayable.reasons[:MOST_FAULTS]:
            log(SYNOPSIS.program, "error", f"unable to export {shown(key)}: {why}")
        if as_json:
            refused = [{"rule": decoded(key), "message": why} for key, why in unsayable.reasons]
            say_json({"refused": refused})
        lost = count(len(unsayable.reasons), "rule")
        raise Failure(USAGE, f"unable to export {shown(rules)}: {format_} cannot say {lost}") from None
    write_text(made, out, contents.mode)
    if as_json and out is not None:
        say_json({"out": decoded(out), "format": format_, "rules": len(contents.rules)})
    return 0


def _made(format_: str, contents: LoadedRules, allow: bool, daemon: str) -> str:
    if format_ == "text":
        return text.write(Entry(key, rule) for key, rule in contents.rules.items())
    if format_ == "cidr":
        return cidrlist.write(contents, allow=allow)
    if format_ == "haproxy":
        return haproxy.write(contents, allow=allow)
    if format_ == "hosts":
        return hostsaccess.write(contents, daemon=daemon)
    if format_ == "tcprules":
        return tcprules.write(contents)
    return nginx.write(contents)
