"""s6-accessrules map: a picture of who gets in."""

from __future__ import annotations

from s6tls.accessrules.text import decoded, shown
from s6tls.audit.core.networks import Family
from s6tls.audit.picture import render
from s6tls.audit.picture.palette import COLOURINGS
from s6tls.audit.picture.scenes import COARSE, FINE, Scene, scene
from s6tls.cli.accessrules.common import JSON, Table, load, progress, refuse_overwriting, say_json, write_whole
from s6tls.cli.frame.options import Given, Option, Synopsis, UsageError

SYNOPSIS = Synopsis(
    "s6-accessrules map",
    (
        Option("", ("colour-by", "color-by"), "|".join(COLOURINGS), "what the colours stand for. Default: `verdict`"),
        Option(
            "",
            ("against",),
            "NEW",
            "show what would change with this rule set, in colours of its own",
            alternative=True,
        ),
        JSON,
    ),
    "RULES OUT",
)


def body(argv: list[bytes]) -> int:
    """Draw the map that these words ask for."""
    given = SYNOPSIS.read_mixed(argv)
    rules, out = given.words
    refuse_overwriting(rules, out)
    ending = out.rpartition(b".")[2].lower()
    if ending not in (b"png", b"svg"):
        raise UsageError(f"neither .png nor .svg: {shown(out)}")
    drawn, mode = _map(rules, given, FINE if ending == b"png" else COARSE)
    write_whole(out, render.png(drawn) if ending == b"png" else render.svg(drawn).encode(), mode)
    if given.flag("json"):
        say_json(_json(out, drawn))
    else:
        _tell(drawn)
    return 0


def _map(rules: bytes, given: Given, order: int) -> tuple[Scene, int]:
    """Return the picture, and the permissions of what it is made of."""
    colour_by, new = given.choice("colour-by", "verdict"), given.value("against")
    with progress() as tell:
        contents = load(rules, tell)
        if new is None:
            title = f"{shown(rules)} by {colour_by}"
            return scene(contents, colour_by, order=order, title=title, progress=tell), contents.mode
        title = f"From {shown(rules)} to {shown(new)}"
        against = load(new, tell)
        drawn = scene(contents, against=against, order=order, title=title, progress=tell)
        return drawn, contents.mode & against.mode


def _json(out: bytes, drawn: Scene) -> dict[str, object]:
    return {
        "out": decoded(out),
        "families": {
            family.value: [
                {"label": entry.label, "colours": list(entry.colours), "addresses": entry.counts[family]}
                for entry in drawn.legend
                if entry.counts[family]
            ]
            for family in Family
        },
    }


def _tell(drawn: Scene) -> None:
    table = Table("colour", "IPv4 addresses", "IPv6 addresses", right=[1, 2])
    entries = [entry for entry in drawn.legend if any(entry.counts.values())]
    table.add(entries, lambda entry: (entry.label, *(entry.counts[family] for family in Family)))
    table.show()
