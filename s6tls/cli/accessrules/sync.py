"""s6-accessrules sync: keep a table of the kernel as rules say."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded, shown
from s6tls.audit.core.networks import Family
from s6tls.audit.kernel.denied import allows_names
from s6tls.audit.kernel.state import NotOurs, State, parse
from s6tls.audit.kernel.table import Update, removal, update
from s6tls.cli.accessrules.clients import by_family, in_words
from s6tls.cli.accessrules.common import JSON, load, progress, say, say_json
from s6tls.cli.accessrules.nft import LOG, PORT, TABLE, UNDECIDED, denied_by, table, table_name
from s6tls.cli.frame.options import Given, Option, Synopsis, UsageError
from s6tls.cli.frame.program import Failure, unable_to
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.kernel.denied import Denied

SYNOPSIS = Synopsis(
    "s6-accessrules sync",
    (
        TABLE,
        PORT,
        UNDECIDED,
        LOG,
        Option("", ("dry-run",), None, "print the commands for nft instead of running them"),
        Option("", ("remove",), None, "remove the table, if it was made by this program; RULES are left out"),
        JSON,
    ),
    "nft [RULES]",
)


def body(argv: list[bytes]) -> int:
    """Bring the kernel's table to what the rules say, or remove it."""
    given = SYNOPSIS.read_mixed(argv)
    kind, *rules = given.words
    if kind != b"nft":
        raise UsageError(f"unknown kind of table: {shown(kind)} (expected nft)")
    if given.flag("remove") == bool(rules):
        raise UsageError("--remove takes no RULES" if rules else "no RULES are named")
    if given.flag("json") and given.flag("dry-run"):
        raise UsageError("--dry-run prints commands, not JSON")
    return _sync(rules[0], given) if rules else _remove(given)


def _sync(rules: bytes, given: Given) -> int:
    made, undecided = table(given), given.choice("undecided", "pass")
    with progress() as tell:
        loaded = load(rules, tell)
    if undecided == "drop" and allows_names(loaded):
        log(SYNOPSIS.program, "warning", f"{shown(rules)} has rules that allow names: only servers with -H refuse so")
    wanted = denied_by(loaded, given)
    state = _state(made.name)
    needed = update(made, wanted, state)
    if given.flag("dry-run"):
        _print(needed.commands)
        return 0
    if needed.commands:
        _run(["-f", "-"], "\n".join(needed.commands).encode() + b"\n", f"change table inet {made.name}")
        if _state(made.name) != State(made.marks(), wanted):
            raise Failure(ExitCode.SYSTEM, f"unable to change table inet {made.name}: it is not what was meant")
    done = "unchanged" if not needed.commands else "made" if state is None else "changed"
    if given.flag("json"):
        say_json({"table": made.name, "state": done, **_counts(needed, wanted)})
    else:
        _tell(made.name, done, needed, wanted)
    return 0


def _remove(given: Given) -> int:
    name = table_name(given)
    is_there = _state(name) is not None
    commands = removal(name) if is_there else []
    if given.flag("dry-run"):
        _print(commands)
        return 0
    if commands:
        _run(["-f", "-"], "\n".join(commands).encode() + b"\n", f"remove table inet {name}")
    done = "removed" if is_there else "absent"
    if given.flag("json"):
        say_json({"table": name, "state": done})
    else:
        say(f"table inet {name}: {done}")
    return 0


def _print(commands: list[str]) -> None:
    for command in commands:
        say(command)


def _counts(needed: Update, wanted: Denied) -> dict[str, object]:
    return {
        "ranges": by_family({family: len(wanted[family]) for family in Family}),
        "addresses": by_family(_addresses(wanted)),
        "added": by_family(needed.added),
        "removed": by_family(needed.removed),
        "refilled": [family.value for family in needed.refilled],
    }


def _addresses(wanted: Denied) -> dict[Family, int]:
    return {family: sum(end - start for start, end in wanted[family]) for family in Family}


def _tell(name: str, done: str, needed: Update, wanted: Denied) -> None:
    say(f"table inet {name}: {done}")
    say(f"denied ranges: {in_words({family: len(wanted[family]) for family in Family})}")
    say(f"denied addresses: {in_words(_addresses(wanted))}")
    if done == "changed":
        say(f"ranges added: {in_words(needed.added)}; removed: {in_words(needed.removed)}")


def _state(name: str) -> State | None:
    """Return what the kernel has of the table, None if there is none.  Raises Failure."""
    doing = f"read table inet {name}"
    tables = json.loads(_run(["-j", "list", "tables", "inet"], b"", doing))["nftables"]
    if not any(one.get("table", {}).get("name") == name for one in tables):
        return None
    try:
        return parse(_run(["-j", "list", "table", "inet", name], b"", doing))
    except NotOurs as error:
        message = f"unable to use table inet {name}: s6-accessrules did not make it: {error}"
        raise Failure(ExitCode.SYSTEM, message) from error


def _run(words: list[str], text: bytes, doing: str) -> bytes:
    """Run nft with a text on stdin, and return what it prints.  Raises Failure."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    with unable_to("run nft"):
        done = subprocess.run(["nft", *words], input=text, capture_output=True, env={**os.environ, "PATH": path})
    if done.returncode:
        lines = done.stderr.splitlines() or [b"nft ended with code %d" % done.returncode]
        raise Failure(ExitCode.SYSTEM, f"unable to {doing}: {decoded(lines[0])}")
    return done.stdout
