"""Maps of rule sets: IPv4 on a Hilbert curve, IPv6 as a treemap, and a legend, as shapes for anybody to draw.

IPv4 is a square of cells along the curve.  A cell with one outcome has its colour; one with several has a colour that
says so, and whether anything is allowed in it.  IPv6 is too empty for that: its rules are tiles, each within that of
the next wider rule, and a tile is the larger the more rules are in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.text import printable, shown
from s6tls.audit.core.networks import Family, split_key
from s6tls.audit.core.partition import NO_RULE
from s6tls.audit.core.progress import Progress, silent
from s6tls.audit.picture import hilbert, palette
from s6tls.audit.picture.labels import CHARACTER, Ground, Spot
from s6tls.audit.picture.survey import Survey, plane, tiling
from s6tls.audit.picture.treemap import Area, squarified

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.picture.survey import Block, Plane, Tile


COARSE = 8
"""The order of a map of 256 columns and rows: a cell is a /16."""

FINE = 10
"""The order of a map of 1024 columns and rows: a cell is a /20."""

TEXT, FAINT_TEXT, PAPER, LINE = "#1a1a1a", "#4a4a4a", "#ffffff", "#7a7a7a"

_SIDE = 1024
_MARGIN = 24
_TOP = 84
_COLUMN = 720
_WIDTH = _MARGIN + _SIDE + 2 * _MARGIN + _COLUMN + _MARGIN
_HEIGHT = _TOP + _SIDE + _MARGIN
_RIGHT = _MARGIN + _SIDE + 2 * _MARGIN
_LEGEND_ROW = 19
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


class Rectangle(NamedTuple):
    """A filled rectangle; an empty `fill` or `line` is not drawn.  `title` is shown to who points at it."""

    area: Area
    fill: str
    line: str = ""
    title: str = ""


class Text(NamedTuple):
    """A line of text; y is that of its baseline, and x that of its start, middle or end, as `anchor` says.

    A `halo` is a colour around the letters, for where they lie on several.
    """

    x: float
    y: float
    size: int
    text: str
    anchor: str = "start"
    colour: str = TEXT
    halo: str = ""


class Cells(NamedTuple):
    """A square of 2**order columns and rows, each cell the index of a colour, row by row."""

    area: Area
    order: int
    cells: bytes
    colours: tuple[str, ...]


Shape = Rectangle | Text | Cells


@dataclass(frozen=True)
class Entry:
    """What colours stand for, and how many addresses of each family have them."""

    label: str
    colours: tuple[str, ...]
    counts: dict[Family, int]


@dataclass(frozen=True)
class Scene:
    """A map: its size, what it says in words, its legend, and shapes in the order in which they are drawn."""

    width: int
    height: int
    title: str
    legend: tuple[Entry, ...]
    shapes: tuple[Shape, ...]


def scene(
    loaded: LoadedRules,
    colour_by: str = "verdict",
    *,
    against: LoadedRules | None = None,
    order: int = COARSE,
    title: str = "Rules",
    progress: Progress = silent,
) -> Scene:
    """Map a rule set, coloured by one of `palette.COLOURINGS`, or what changes if `against` takes its place.

    IPv4 gets 2**order columns and rows.  Takes seconds for a million rules.
    """
    title = printable(title)
    if against is None:
        colours = palette.COLOURINGS[colour_by](loaded)
        surveys = [Survey.of(loaded, colours, family, progress) for family in Family]
    else:
        surveys = [Survey.of_changes(loaded, against, family, progress) for family in Family]
    internet = plane(surveys[0], order, progress)
    whole = tiling(surveys[1], progress=progress)
    legend = _legend(surveys, {*internet.cells, *_swatches(whole)})
    bottom = _HEIGHT - _MARGIN - _LEGEND_ROW * (len(legend) + 3)
    shapes = (
        Rectangle(Area(0, 0, _WIDTH, _HEIGHT), PAPER),
        Text(_MARGIN, 38, 22, _shortened(title, 1500, 22)),
        *_draw_plane(internet, surveys[0]),
        *_draw_tiling(whole, surveys[1], Area(_RIGHT, _TOP, _COLUMN, bottom - _TOP)),
        *_draw_legend(legend, bottom),
    )
    return Scene(_WIDTH, _HEIGHT, title, legend, shapes)


def _swatches(tile: Tile) -> Iterator[int]:
    if tile.swatch is not None:
        yield tile.swatch
    for inner in tile.tiles:
        yield from _swatches(inner)


def _legend(surveys: list[Survey], used: set[int]) -> tuple[Entry, ...]:
    """Return an entry for everything that colours in use, or those of any address, stand for."""
    swatches = surveys[0].swatches
    entries = []
    for label, indexes in palette.legend(swatches).items():
        counts = {survey.partition.family: sum(survey.counts[index] for index in indexes) for survey in surveys}
        if any(counts.values()) or not used.isdisjoint(indexes):
            entries.append(Entry(label, tuple(swatches[index].colour for index in indexes), counts))
    return tuple(entries)


def _draw_plane(internet: Plane, survey: Survey) -> Iterator[Shape]:
    columns = 1 << internet.order
    cells = bytearray(columns * columns)
    for (column, row), swatch in zip(hilbert.curve(internet.order), internet.cells, strict=True):
        cells[row * columns + column] = swatch
    cell = f"a cell is a /{2 * internet.order}"
    yield Text(_MARGIN, _TOP - 12, 14, f"IPv4 along a Hilbert curve, the numbers being those of /8 networks; {cell}")
    square = Area(_MARGIN, _TOP, _SIDE, _SIDE)
    yield Cells(square, internet.order, bytes(cells), tuple(swatch.colour for swatch in survey.swatches))
    places = [_place(block.number << 24, 8) for block in internet.blocks]
    for block, (x, y, width, height) in zip(internet.blocks, places, strict=True):
        yield Rectangle(Area(x, y, width, height), "", LINE, _block_title(block, survey))
    yield from _draw_labels(internet, survey, places, Ground(square, internet.order, bytes(cells)))


def _draw_labels(internet: Plane, survey: Survey, places: list[Area], ground: Ground) -> Iterator[Text]:
    """Write into blocks what they are, where it hides nothing; a block's number, if need be, upon its cells."""
    for block, (x, y, width, height) in zip(internet.blocks, places, strict=True):
        number = str(block.number)
        corners = [
            Spot(left, top, anchor)
            for top in (y + 13, y + height - 5)
            for left, anchor in ((x + 4, "start"), (x + width - 4, "end"))
        ]
        placed = ground.place(number, 11, corners)
        if placed is not None:
            yield _label(number, 11, placed, survey)
        else:
            fill = survey.swatches[block.main_swatch].colour
            yield Text(x + 4, y + 13, 11, number, "start", text_colour(fill))
    wide = _labels_of_wide_rules(internet, survey)
    for block, place in zip(internet.blocks, places, strict=True):
        labels: list[tuple[str, int, tuple[int, ...]]] = []
        if block.number in wide:
            labels.append((wide[block.number], 10, (33, 24, 44)))
        if block.inside:
            labels.append((_label_of_narrow_rules(block, place.width), 9, (52, 60, 42, 32, 22, 12)))
        for text, size, heights in labels:
            placed = ground.place(text, size, [Spot(place.x + place.width / 2, place.y + y, "middle") for y in heights])
            if placed is not None:
                yield _label(text, size, placed, survey)


def _label(text: str, size: int, placed: tuple[Spot, int], survey: Survey) -> Text:
    spot, swatch = placed
    fill = survey.swatches[swatch].colour
    return Text(spot.x, spot.y, size, text, spot.anchor, text_colour(fill), fill)


def _label_of_narrow_rules(block: Block, width: float) -> str:
    """Return the name of the only rule within a block, if it fits, else how many there are."""
    name = _name(block.first_inside)
    if block.inside == 1 and _shortened(name, width - 2, 9) == name:
        return name
    return _rules(block.inside)


def _place(number: int, length: int) -> Area:
    """Return where the map has an IPv4 network."""
    unit = _SIDE / (1 << 16)
    x, y, width, height = hilbert.box(number, length, Family.IP4.bits)
    return Area(_MARGIN + x * unit, _TOP + y * unit, width * unit, height * unit)


def _labels_of_wide_rules(internet: Plane, survey: Survey) -> dict[int, str]:
    """Return the names of rules for /8 and wider networks by the block to write them in.

    That is, of those that a rule decides more than half of, the one that is nearest to the middle of its network.
    """
    partition = survey.partition
    nearest: dict[int, tuple[float, int]] = {}
    for block in internet.blocks:
        if block.rule != NO_RULE:
            here = _place(block.number << 24, 8)
            whole = _place(partition.numbers[block.rule], partition.lengths[block.rule])
            across = here.x + here.width / 2 - whole.x - whole.width / 2
            down = here.y + here.height / 2 - whole.y - whole.height / 2
            found = (across * across + down * down, block.number)
            nearest[block.rule] = min(found, nearest.get(block.rule, found))
    return {number: _name(partition.keys[rule]) for rule, (_, number) in nearest.items()}


def _block_title(block: Block, survey: Survey) -> str:
    by_label = {
        label: sum(block.counts[index] for index in indexes)
        for label, indexes in palette.legend(survey.swatches).items()
    }
    said = [f"{label}: {addresses:,}" for label, addresses in by_label.items() if addresses]
    if block.rule != NO_RULE:
        said.append(f"mostly decided by {shown(survey.partition.keys[block.rule])}")
    if block.inside:
        said.append(f"longer prefixes: {block.inside:,}")
    return "\n".join([Family.IP4.cidr(block.number << 24, 8), *said])


def _draw_tiling(whole: Tile, survey: Survey, area: Area) -> Iterator[Rectangle | Text]:
    heading = f"IPv6: {_rules(len(survey.networks))}, each within the next wider one; areas are numbers of rules"
    yield Text(area.x, area.y - 12, 14, heading)
    draw = _draw_tile if whole.swatch is not None else _draw_inner
    yield from draw(whole, survey, area)


def _draw_tile(tile: Tile, survey: Survey, area: Area) -> Iterator[Rectangle | Text]:
    """Draw a tile and those within it.  One that has nothing to itself is shown as a frame."""
    label, title = _tile_texts(tile, survey)
    fill = PAPER if tile.swatch is None else survey.swatches[tile.swatch].colour
    yield Rectangle(area, fill, LINE if min(area.width, area.height) > 4 else "", title)
    has_room = area.width > 60 and area.height > 16
    if has_room:
        text = _shortened(label, area.width - 8, 11, keep_end=tile.rules == 1)
        yield Text(area.x + 4, area.y + 12, 11, text, colour=text_colour(fill))
    if tile.tiles:
        other = min(4.0, 0.06 * min(area.width, area.height))
        top = 17.0 if has_room and area.height > 40 else other
        yield from _draw_inner(tile, survey, area.inset(top, other))


def _draw_inner(tile: Tile, survey: Survey, area: Area) -> Iterator[Rectangle | Text]:
    """Draw the tiles within one, and leave room for its own rules, unless these decide nothing."""
    own = [] if tile.swatch is None else [max(1, tile.rules)]
    places = squarified([*(inner.weight for inner in tile.tiles), *own], area)
    for inner, place in zip(tile.tiles, places, strict=False):
        yield from _draw_tile(inner, survey, place)


def _tile_texts(tile: Tile, survey: Survey) -> tuple[str, str]:
    """Return the label of a tile, and what is said to who points at it."""
    family = survey.partition.family
    swatch = "" if tile.swatch is None else survey.swatches[tile.swatch].label
    if tile.rules == 0:
        return f"no rule: {swatch}", f"addresses without a rule\n{swatch}"
    key = family.key(tile.number, tile.length)
    name = _name(key) if tile.rules == 1 else f"{family.cidr(tile.number, tile.length)}: {_rules(tile.rules)}"
    within = f"\nrules within: {tile.weight - tile.rules:,}" if tile.tiles else ""
    first = shown(key) if tile.rules == 1 else name
    return name, f"{first}\n{swatch or 'decided by the rules within'}{within}"


def _draw_legend(legend: tuple[Entry, ...], top: float) -> Iterator[Rectangle | Text]:
    ends = {Family.IP4: _RIGHT + 385, Family.IP6: _RIGHT + _COLUMN}
    y = top + 2 * _LEGEND_ROW
    yield Text(_RIGHT, y, 12, "Addresses", colour=FAINT_TEXT)
    for family, end in ends.items():
        yield Text(end, y, 12, family.label, "end", FAINT_TEXT)
    for entry in legend:
        y += _LEGEND_ROW
        width = 24 / len(entry.colours)
        for place, colour in enumerate(entry.colours):
            yield Rectangle(Area(_RIGHT + place * width, y - 11, width, 13), colour)
        yield Rectangle(Area(_RIGHT, y - 11, 24, 13), "", LINE)
        has_counts = any(entry.counts.values())
        yield Text(_RIGHT + 32, y, 12, _shortened(entry.label, 265, 12))
        if has_counts:
            for family, end in ends.items():
                yield Text(end, y, 11, f"{entry.counts[family]:,}", "end")


def _name(key: bytes) -> str:
    """Return the key of a rule without its family."""
    return shown(split_key(key)[1])


def _rules(number: int) -> str:
    return "1 rule" if number == 1 else f"{number:,} rules"


def _shortened(text: str, width: float, size: int, keep_end: bool = False) -> str:
    """Cut a text that would be wider than `width`, at its end or, of two that begin alike, at its start."""
    most = max(2, int(width / (size * CHARACTER)))
    if len(text) <= most:
        return text
    return _ELLIPSIS + text[1 - most :] if keep_end else text[: most - 1] + _ELLIPSIS


def text_colour(fill: str) -> str:
    """Return which colour of text stands out from a background, by its relative luminance (WCAG 2.2)."""
    channels = [int(fill[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return PAPER if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.18 else TEXT
