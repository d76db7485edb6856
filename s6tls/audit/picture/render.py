"""Drawing maps: as SVG, a text, and as PNG by means of Pillow."""

from __future__ import annotations

import io
from itertools import groupby
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from s6tls.audit.picture.scenes import PAPER, Cells, Rectangle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.ImageDraw import ImageDraw

    from s6tls.audit.picture.scenes import Scene, Shape, Text
    from s6tls.audit.picture.treemap import Area


_HALO = 2.5
_LINE_OPACITY = "80"
_FONTS = "Helvetica, Arial, 'Liberation Sans', sans-serif"


def svg(scene: Scene) -> str:
    """Return a map as SVG: an element to put into a page, or into a file of its own."""
    size = f'width="{scene.width}" height="{scene.height}" viewBox="0 0 {scene.width} {scene.height}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(_spoken(scene))}>']
    lines.append(f'<g font-family="{_FONTS}" stroke-width="1">')
    for style, shapes in groupby(scene.shapes, _svg_style):
        lines += [f"<g {style}>", *map(_svg_shape, shapes), "</g>"]
    return "\n".join([*lines, "</g>", "</svg>", ""])


def _spoken(scene: Scene) -> str:
    counts = [
        f"{entry.label}: {', '.join(f'{count} {family.value}' for family, count in entry.counts.items() if count)}"
        for entry in scene.legend
        if any(entry.counts.values())
    ]
    return f"{scene.title}. Addresses {'; '.join(counts)}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _svg_style(shape: Shape) -> str:
    """Return attributes that shapes which follow each other may share."""
    if isinstance(shape, Cells):
        return 'shape-rendering="crispEdges"'
    if isinstance(shape, Rectangle):
        line = f' stroke="{shape.line}" stroke-opacity="0.5"' if shape.line else ""
        return f'fill="{shape.fill}"{line}' if shape.fill else f'fill="none" pointer-events="all"{line}'
    halo = f' stroke="{shape.halo}" stroke-width="{_HALO}" stroke-linejoin="round" paint-order="stroke"'
    style = f'font-size="{shape.size}" fill="{shape.colour}" text-anchor="{shape.anchor}" pointer-events="none"'
    return style + (halo if shape.halo else "")


def _svg_shape(shape: Shape) -> str:
    if isinstance(shape, Cells):
        return _svg_cells(shape)
    if isinstance(shape, Rectangle):
        x, y, width, height = map(_number, shape.area)
        rectangle = f'<rect x="{x}" y="{y}" width="{width}" height="{height}"'
        return f"{rectangle}><title>{escape(shape.title)}</title></rect>" if shape.title else f"{rectangle}/>"
    return f'<text x="{_number(shape.x)}" y="{_number(shape.y)}">{escape(shape.text)}</text>'


def _svg_cells(shape: Cells) -> str:
    """Return a path for each colour, upon a background in the most common one."""
    columns = 1 << shape.order
    scale = shape.area.width / columns
    common = max(set(shape.cells), key=lambda swatch: (shape.cells.count(swatch), -swatch))
    paths: dict[int, list[str]] = {}
    for x, y, width, height, swatch in _rectangles(shape.cells, columns):
        if swatch != common:
            paths.setdefault(swatch, []).append(f"M{x} {y}h{width}v{height}h-{width}z")
    place = f"translate({_number(shape.area.x)} {_number(shape.area.y)}) scale({_number(scale)})"
    lines = [
        f'<g transform="{place}">',
        f'<path fill="{shape.colours[common]}" d="M0 0h{columns}v{columns}h-{columns}z"/>',
    ]
    lines += [f'<path fill="{shape.colours[swatch]}" d="{"".join(parts)}"/>' for swatch, parts in sorted(paths.items())]
    return "\n".join([*lines, "</g>"])


def _rectangles(cells: bytes, columns: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Cut a square of cells into rectangles of one value: runs within a row, those with the same ends joined downwards.

    Yields x, y, width, height and the value.
    """
    open_: dict[tuple[int, int, int], int] = {}
    for y in range(columns + 1):
        row = set(_row_runs(cells[y * columns : (y + 1) * columns]))
        for run in sorted(open_.keys() - row):
            start, end, value = run
            top = open_.pop(run)
            yield start, top, end - start, y - top, value
        for run in row:
            open_.setdefault(run, y)


def _row_runs(row: bytes) -> Iterator[tuple[int, int, int]]:
    start = 0
    for end in range(1, len(row) + 1):
        if end == len(row) or row[end] != row[start]:
            yield start, end, row[start]
            start = end


def png(scene: Scene) -> bytes:
    """Return a map as a PNG file."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (scene.width, scene.height), PAPER)
    canvas = ImageDraw.Draw(image, "RGBA")
    for shape in scene.shapes:
        if isinstance(shape, Cells):
            columns = 1 << shape.order
            square = Image.frombytes("P", (columns, columns), shape.cells)
            square.putpalette(bytes.fromhex("".join(shape.colours).replace("#", "")))
            left, top, right, bottom = _pixels(shape.area)
            scaled = square.convert("RGB").resize((right - left, bottom - top), Image.Resampling.NEAREST)
            image.paste(scaled, (left, top))
        elif isinstance(shape, Rectangle):
            _png_rectangle(canvas, shape)
        else:
            _png_text(canvas, shape)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _pixels(area: Area) -> tuple[int, int, int, int]:
    return round(area.x), round(area.y), round(area.x + area.width), round(area.y + area.height)


def _png_rectangle(canvas: ImageDraw, shape: Rectangle) -> None:
    left, top, right, bottom = _pixels(shape.area)
    if shape.fill and right > left and bottom > top:
        canvas.rectangle((left, top, right - 1, bottom - 1), fill=shape.fill)
    if shape.line:
        canvas.rectangle((left, top, right, bottom), outline=shape.line + _LINE_OPACITY)


def _png_text(canvas: ImageDraw, shape: Text) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(shape.size)
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
    place = (round(shape.x), round(shape.y))
    canvas.text(
        place,
        shape.text,
        shape.colour,
        font,
        anchor,
        stroke_width=1 if shape.halo else 0,
        stroke_fill=shape.halo or None,
    )
