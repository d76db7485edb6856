"""s6-accessrules build: compile rules in our text form into a cdb."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from s6tls.accessrules.cdb import DEFAULT_MODE, write_cdb
from s6tls.accessrules.text import decoded, shown
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import family_name
from s6tls.audit.formats import expiry, text
from s6tls.cli.accessrules.common import JSON, interruptible, refuse_overwriting, say_json, writing
from s6tls.cli.accessrules.formats import parsing
from s6tls.cli.accessrules.importing.guards import EXPECT, require_expected
from s6tls.cli.frame.options import Option, Synopsis, UsageError, file_mode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.core.wording import Json
    from s6tls.audit.formats.entries import Entry

SYNOPSIS = Synopsis(
    "s6-accessrules build",
    (
        Option(
            "m", ("mode",), "mode", "permissions of OUT, an octal number up to 7777. Default: 0600, whatever the umask"
        ),
        Option("", ("today",), "YYYY-MM-DD", "the day to judge expiry by. Default: today, in local time"),
        EXPECT,
        JSON,
    ),
    "TEXT OUT",
)
KINDS = {b"ip4": "address", b"ip6": "address", b"reversedns": "name"}


def body(argv: list[bytes]) -> int:
    """Compile what these words name."""
    given = SYNOPSIS.read_mixed(argv)
    as_json = given.flag("json")
    mode = file_mode(given, DEFAULT_MODE)
    today = _day(given.value("today"))
    source, out = given.words
    refuse_overwriting(source, out)
    with parsing(SYNOPSIS.program, [source], as_json=as_json) as (read,):
        kept, expired = expiry.split(text.parse(read.data).entries, today)
    for entry, by in expired:
        _warn(source, entry, by)
    rules = [(entry.key, entry.rule) for entry in kept]
    if given.flag("expect"):
        require_expected(SYNOPSIS.program, given, LoadedRules.of(rules))
    with interruptible() as interruption, writing(out):
        write_cdb(out, rules, mode=mode, checkpoint=interruption.checkpoint)
    if as_json:
        left_out = [_json(entry, by) for entry, by in expired]
        say_json({"out": decoded(out), "rules": len(kept), "expired": left_out})
    return 0


def _json(entry: Entry, by: Entry | None) -> Json:
    return {
        "line": entry.line,
        "rule": decoded(entry.key),
        "verdict": wording.verdict(entry.rule),
        "expires": str(entry.provenance.expires),
        "instead": None if by is None else {"rule": decoded(by.key), "verdict": wording.verdict(by.rule)},
    }


def _warn(source: bytes, entry: Entry, by: Entry | None) -> None:
    rule = f"{wording.verdict(entry.rule)} {shown(entry.key)}"
    message = f"{shown(source)}:{entry.line}: {rule} expired on {entry.provenance.expires} and is left out"
    if by is not None:
        message += f": {shown(by.key)} ({wording.verdict(by.rule)}) decides in its place"
    elif kind := KINDS.get(family_name(entry.key)):
        message += f": no wider rule by {kind} is left"
    log(SYNOPSIS.program, "warning", message)


def _day(value: bytes | None) -> date:
    """Read --today.  Raises UsageError."""
    if value is None:
        return date.today()
    try:
        return date.fromisoformat(value.decode())
    except ValueError:
        raise UsageError(f"invalid value for --today: {shown(value)} (expected YYYY-MM-DD)") from None
