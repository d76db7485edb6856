"""s6-accessrules export: from rules to the forms of other programs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s6tls.accessrules.text import decoded, shown
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, split_key
from s6tls.audit.formats.entries import Unsayable
from s6tls.audit.formats.registry import WRITERS
from s6tls.cli.accessrules import nft
from s6tls.cli.accessrules.common import JSON, count, load, progress, refuse_overwriting, say_json
from s6tls.cli.accessrules.formats import MOST_FAULTS, daemon_name, known_format, write_text
from s6tls.cli.frame.options import Option, Synopsis, UsageError
from s6tls.cli.frame.program import Failure
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.formats.registry import Writer
    from s6tls.cli.frame.options import Given

SYNOPSIS = Synopsis(
    "s6-accessrules export",
    (
        Option("", ("verdict",), "allow|deny", "whom a list is to have. Default: `allow`"),
        Option("", ("family",), "ip4|ip6", "write only what is about addresses of one family"),
        Option("", ("drop-env",), None, "leave out variables"),
        Option("", ("daemon",), "NAME", "the daemon that the lines of a hosts.allow are for. Default: `ALL`"),
        "A table for nftables",
        *nft.OPTIONS,
        "Output",
        replace(JSON, help="answer in JSON; it needs OUT, since the text itself goes to stdout without"),
    ),
    "FORMAT RULES [OUT]",
    tuple((name, writer.about) for name, writer in WRITERS.items()),
)
_OF_TABLES = tuple(option.name for option in nft.OPTIONS)


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
    format_ = known_format(name, WRITERS)
    options = _options(format_, WRITERS[format_], given)
    table = nft.table(given) if any(map(given.flag, _OF_TABLES)) else None
    with progress() as tell:
        contents = _wanted(load(rules, tell), given)
    try:
        if table is not None:
            made = nft.commands(table, contents, given).encode()
        else:
            made = WRITERS[format_].write(contents, **options)
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


def _options(name: str, writer: Writer, given: Given) -> dict[str, Any]:
    """Return what a format's writer is told.  Raises UsageError for an option that it does not take."""
    family = given.choice("family")
    known: dict[str, tuple[str, Any]] = {
        "verdict": ("allow", given.choice("verdict", "allow") == "allow"),
        "daemon": ("daemon", daemon_name(given) or "ALL"),
        "family": ("families", [one for one in Family if family in (None, one.value)]),
    }
    for option in ("verdict", "daemon"):
        if given.flag(option) and option not in writer.options:
            raise UsageError(f"--{option} is not for {name}")
    for option in filter(given.flag, _OF_TABLES):
        if name != "nft" or given.flag("verdict") or family is not None:
            raise UsageError(f"--{option} is for a table of nft")
    return dict(known[option] for option in writer.options if option in known)


def _wanted(contents: LoadedRules, given: Given) -> LoadedRules:
    """Return the rules without those about the other family's addresses, and without variables, as is asked for."""
    family = given.choice("family")
    rules = contents.rules.items()
    if family is not None:
        rules = {key: rule for key, rule in rules if split_key(key)[0] in (None, Family(family))}.items()
    if given.flag("drop-env"):
        rules = {key: replace(rule, env=()) for key, rule in rules}.items()
    return LoadedRules.of(rules, is_tree=contents.is_tree, mode=contents.mode)
