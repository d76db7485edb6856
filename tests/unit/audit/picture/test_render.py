"""Drawn maps, read back: SVG with the standard library's parser, PNG with Pillow."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.picture import hilbert, render, scenes
from s6tls.audit.picture.palette import COLOURINGS
from tests.support.rules import spaces

SVG = "{http://www.w3.org/2000/svg}"
ALLOW, DENY = Rule(True), Rule(False)
BLUE, ORANGE, GREY, SKY = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xE6, 0xE6, 0xE6), (0x56, 0xB4, 0xE9)


def parsed(scene: scenes.Scene) -> ElementTree.Element:
    return ElementTree.fromstring(render.svg(scene))


def opened(scene: scenes.Scene) -> Image.Image:
    return Image.open(io.BytesIO(render.png(scene))).convert("RGB")


def bare(scene: scenes.Scene) -> scenes.Scene:
    """The IPv4 cells alone, with nothing written over them."""
    return replace(scene, shapes=tuple(shape for shape in scene.shapes if isinstance(shape, scenes.Cells)))


def cells_of(scene: scenes.Scene) -> scenes.Cells:
    return next(shape for shape in scene.shapes if isinstance(shape, scenes.Cells))


def random_contents(number: int, most: int = 24) -> LoadedRules:
    """Rules spread over both families, the same every time."""
    rules = {}
    for index in range(number):
        mixed = index * 2654435761 % 2**32
        length = 4 + mixed % (most - 3)
        rules[Family.IP4.key(mixed >> 32 - length << 32 - length, length)] = Rule(index % 3 > 0)
        rules[Family.IP6.key((0x2000 << 112) + (mixed << 80), 48)] = Rule(index % 2 > 0)
    return LoadedRules.of(rules.items())


@settings(max_examples=12)
@given(st.dictionaries(st.tuples(st.integers(0, 255), st.integers(0, 8)), st.booleans(), max_size=10))
def test_pixels_have_the_colours_of_their_addresses(chosen: dict[tuple[int, int], bool]) -> None:
    rules: spaces.Rules = {
        Family.IP4.key(number >> 8 - length << 32 - length, length): Rule(allow)
        for (number, length), allow in chosen.items()
    }
    scene = scenes.scene(LoadedRules.of(rules.items()), order=5)
    image = opened(bare(scene))
    area = cells_of(scene).area
    for number in range(256):
        rule = spaces.decide(rules, Family.IP4, number << 24)[1]
        x, y, width, height = hilbert.box(number << 24, 8, 32)
        for column, row in ((x, y), (x + width - 1, y + height - 1)):
            place = int(area.x + column * area.width / 65536), int(area.y + row * area.height / 65536)
            assert image.getpixel(place) == (GREY if rule is None else BLUE if rule.allow else ORANGE)


def test_a_pixel_of_a_fine_map_is_a_20() -> None:
    rules = {b"ip4/0.0.0.0_0": DENY, b"ip4/10.32.16.0_20": ALLOW, b"ip4/192.0.2.1_32": ALLOW}
    scene = scenes.scene(LoadedRules.of(rules.items()), order=scenes.FINE)
    image = opened(bare(scene))
    area = cells_of(scene).area

    def pixel(text: str) -> object:
        x, y, _, _ = hilbert.box(int.from_bytes(map(int, text.split("."))), 32, 32)
        return image.getpixel((int(area.x) + (x >> 6), int(area.y) + (y >> 6)))

    assert [pixel(text) for text in ("10.32.16.0", "10.32.31.255", "10.32.15.255", "10.32.32.0")] == [
        BLUE,
        BLUE,
        ORANGE,
        ORANGE,
    ]
    assert [pixel(text) for text in ("192.0.0.0", "192.0.15.255", "192.0.16.0")] == [SKY, SKY, ORANGE]


@pytest.mark.parametrize("colour_by", sorted(COLOURINGS))
def test_svg_has_the_colour_of_every_cell(colour_by: str) -> None:
    scene = scenes.scene(random_contents(300), colour_by, order=6)
    cells = cells_of(scene)
    drawn: dict[tuple[int, int], str] = {}
    for path in parsed(scene).iter(f"{SVG}path"):
        for x, y, width, height in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+z", path.attrib["d"]):
            for column in range(int(x), int(x) + int(width)):
                for row in range(int(y), int(y) + int(height)):
                    drawn[column, row] = path.attrib["fill"]
    assert drawn == {(place % 64, place // 64): cells.colours[swatch] for place, swatch in enumerate(cells.cells)}


HOSTILE = b'</text><script>alert("1")</script>&amp;\'\x00\x1b[31m\xff\n'


def test_hostile_text_stays_text() -> None:
    rules = {
        b"ip4/10.0.0.0_8": Rule(True, ((b"CERTFILE", HOSTILE), (b"UID", HOSTILE))),
        b"ip6/2001:db8::_32": Rule(True, ((b"CERTFILE:" + HOSTILE, HOSTILE),)),
        b"ip4/" + HOSTILE: Rule(True),
        HOSTILE: Rule(True),
    }
    for colour_by in COLOURINGS:
        scene = scenes.scene(LoadedRules.of(rules.items()), colour_by, title="<&\"'>")
        root = parsed(scene)
        assert not list(root.iter(f"{SVG}script"))
        assert "<script>" in "".join(entry.label for entry in scene.legend) or colour_by in ("verdict", "rule")
        assert opened(scene).size == (scene.width, scene.height)


@settings(max_examples=30)
@given(st.text(max_size=40))
@example("\x08\ud800\uffff]]>")
def test_any_title_is_drawn(title: str) -> None:
    scene = scenes.scene(LoadedRules({}), order=2, title=title)
    titles = tuple(shape for shape in scene.shapes if isinstance(shape, scenes.Text))[:1]
    assert next(text.text or "" for text in parsed(scene).iter(f"{SVG}text")) == titles[0].text
    opened(replace(scene, height=40, shapes=titles))


def test_svg_speaks_to_who_cannot_see_it_and_to_who_points_at_it() -> None:
    contents = LoadedRules.of([(b"ip4/10.0.0.0_8", ALLOW), (b"ip6/2001:db8::_32", DENY)])
    root = parsed(scenes.scene(contents, title="Mine"))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"].startswith("Mine. Addresses allowed: 16777216 ip4; denied: ")
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert "10.0.0.0/8\nallowed: 16,777,216\nmostly decided by ip4/10.0.0.0_8" in titles
    assert "ip6/2001:db8::_32\ndenied" in titles


def test_maps_are_the_same_every_time() -> None:
    first, second = (scenes.scene(random_contents(50), order=6) for _ in range(2))
    assert render.svg(first) == render.svg(second)
    assert render.png(first) == render.png(second)


def test_many_rules_make_no_large_map() -> None:
    text = render.svg(scenes.scene(random_contents(20_000, most=28)))
    assert len(text) < 1_000_000


def test_ipv6_pixels_have_the_colours_of_their_tiles() -> None:
    contents = LoadedRules.of([(b"ip6/::_1", ALLOW), (b"ip6/8000::_1", DENY)])
    scene = scenes.scene(contents, order=2)
    image = opened(scene)
    tiles = [shape for shape in scene.shapes if isinstance(shape, scenes.Rectangle) and "ip6/" in shape.title]
    assert len(tiles) == 2
    for tile, colour in zip(tiles, (BLUE, ORANGE), strict=True):
        middle = int(tile.area.x + tile.area.width / 2), int(tile.area.y + tile.area.height / 2)
        assert image.getpixel(middle) == colour
