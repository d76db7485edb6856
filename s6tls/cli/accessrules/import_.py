"""s6-accessrules import: from the forms of other programs to rules."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded, shown
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.save import write
from s6tls.audit.formats import cidrlist, haproxy, hostsaccess, nginx, tcprules, text
from s6tls.cli.accessrules.common import JSON, count, interruptible, refuse_overwriting, say_json, writing
from s6tls.cli.accessrules.formats import (
    MOST_FAULTS,
    check_format,
    daemon_name,
    located,
    parsing,
    write_text,
)
from s6tls.cli.frame.options import Option, Synopsis
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.audit.core.wording import Json
    from s6tls.audit.formats.entries import Entry, Parsed

SYNOPSIS = Synopsis(
    "s6-accessrules import",
    (
        Option("", ("verdict",), "allow|deny", "what the networks of a list (`cidr`, `haproxy`) are. Default: `allow`"),
        Option("", ("deny",), "FILE", "the hosts.deny that goes with a hosts.allow"),
        Option(
            "",
            ("daemon",),
            "NAME",
            "the daemon whose lines of hosts.allow and hosts.deny to take. "
            "Without it, a line that is not for `ALL` is refused",
        ),
        JSON,
    ),
    "FORMAT IN [OUT]",
)
FORMATS: dict[bytes, tuple[str, ...]] = {
    b"text": (),
    b"tcprules": (),
    b"hosts": ("deny", "daemon"),
    b"cidr": ("verdict",),
    b"nginx": (),
    b"haproxy": ("verdict",),
}


def body(argv: list[bytes]) -> int:
    """Read one form and write another."""
    given = SYNOPSIS.read_mixed(argv)
    as_json = given.flag("json")
    name, source, *optional = given.words
    out = optional[0] if optional else None
    format_ = check_format(name, given, FORMATS)
    allow = given.choice("verdict", "allow") == "allow"
    daemon = daemon_name(given)
    paths = [source, *given.values("deny")[-1:]]
    for path in paths:
        if out is not None:
            refuse_overwriting(path, out)
    with parsing(SYNOPSIS.program, paths, as_json=as_json) as sources:
        parsed = _parse(format_, [source.data for source in sources], allow, daemon)
    for remark in parsed.remarks[:MOST_FAULTS]:
        log(SYNOPSIS.program, "warning", f"{shown(paths[remark.file])}:{remark.line}: {remark.message}")
    if len(parsed.remarks) > MOST_FAULTS:
        more = count(len(parsed.remarks) - MOST_FAULTS, "more remark")
        log(SYNOPSIS.program, "warning", f"and {more} on lines that are never reached")
    if out is not None or not as_json:
        _write(out, parsed, reduce(and_, [source.mode for source in sources]))
    if as_json:
        said: Json = {"rules": [_json(entry) for entry in parsed.entries]}
        if out is not None:
            said = {"out": decoded(out), "rules": len(parsed.entries)}
        say_json({**said, "unreached": [located(remark, paths) for remark in parsed.remarks]})
    return 0


def _json(entry: Entry) -> Json:
    about = entry.provenance
    decided = wording.decision_json(entry.key, entry.rule)
    return {
        "key": decided.pop("rule"),
        **decided,
        "owner": about.owner or None,
        "ticket": about.ticket or None,
        "expires": str(about.expires) if about.expires else None,
        "note": about.note or None,
        "comments": list(about.comments),
    }


def _parse(format_: str, texts: list[bytes], allow: bool, daemon: str | None) -> Parsed:
    if format_ == "cidr":
        return cidrlist.parse(texts[0], allow=allow)
    if format_ == "haproxy":
        return haproxy.parse(texts[0], allow=allow)
    if format_ == "hosts":
        return hostsaccess.parse(*texts, daemon=daemon)
    if format_ == "tcprules":
        return tcprules.parse(texts[0])
    if format_ == "nginx":
        return nginx.parse(texts[0])
    return text.parse(texts[0])


def _write(out: bytes | None, parsed: Parsed, widest: int) -> None:
    """Write a cdb, a tree if the name ends with a slash, or a text with no wider permissions than these."""
    if out is None or not out.endswith((b".cdb", b"/")):
        write_text(text.write(parsed.entries, parsed.trailing), out, widest)
        return
    contents = LoadedRules.of(parsed.rules, is_tree=out.endswith(b"/"))
    with interruptible() as interruption, writing(out):
        write(out.rstrip(b"/") or b"/", contents, checkpoint=interruption.checkpoint)
