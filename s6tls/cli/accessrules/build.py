"""s6-accessrules build: compile rules in our text form into a cdb."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from s6tls.accessrules.compile import DEFAULT_MODE, write_cdb
from s6tls.accessrules.errors import RuleSetError, shown
from s6tls.accessrules.interruption import Interrupted, Interruption
from s6tls.audit import answer
from s6tls.audit.formats import expiry, text
from s6tls.cli.accessrules.formats import parsing
from s6tls.cli.options import Option, Synopsis, UsageError
from s6tls.cli.program import SYSTEM, Failure, unable_to
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.formats.entries import Entry

SYNOPSIS = Synopsis(
    "s6-accessrules build",
    (
        Option("m", ("mode",), "mode", "permissions of OUT, in octal (default 0600)"),
        Option("", ("today",), "YYYY-MM-DD", "the day to judge expiry by (default: today, in local time)"),
    ),
    "TEXT OUT",
)


def body(argv: list[bytes]) -> int:
    """Compile what these words name."""
    options, words = SYNOPSIS.parse_mixed(argv)
    if len(words) != 2:
        raise UsageError
    chosen = dict(options)
    mode = _mode(chosen["m"]) if "m" in chosen else DEFAULT_MODE
    today = _day(chosen["today"]) if "today" in chosen else date.today()
    source, out = words
    with parsing(SYNOPSIS.program, [source]) as (data,):
        kept, expired = expiry.split(text.parse(data).entries, today)
    for entry, by in expired:
        _warn(source, entry, by)
    try:
        with Interruption() as interruption, unable_to(f"write {shown(out)}"):
            rules = ((entry.key, entry.rule) for entry in kept)
            write_cdb(out, rules, mode=mode, checkpoint=interruption.checkpoint)
    except RuleSetError as error:
        raise Failure(SYSTEM, f"unable to write {shown(out)}: {error}") from error
    except Interrupted:
        raise Failure(SYSTEM, "interrupted") from None
    return 0


def _warn(source: bytes, entry: Entry, by: Entry | None) -> None:
    rule = f"{answer.verdict(entry.rule)} {shown(entry.key)}"
    instead = "no other rule" if by is None else f"{shown(by.key)} ({answer.verdict(by.rule)})"
    message = f"{shown(source)}:{entry.line}: {rule} expired on {entry.provenance.expires} and is left out: "
    log(SYNOPSIS.program, "warning", f"{message}{instead} decides in its place")


def _mode(value: bytes) -> int:
    if not value or len(value) > 5 or value.strip(b"01234567") or int(value, 8) > 0o7777:
        raise UsageError(f"mode is not an octal number up to 7777: {shown(value)}")
    return int(value, 8)


def _day(value: bytes) -> date:
    try:
        return date.fromisoformat(value.decode())
    except ValueError:
        raise UsageError(f"invalid value for --today: {shown(value)} (expected YYYY-MM-DD)") from None
