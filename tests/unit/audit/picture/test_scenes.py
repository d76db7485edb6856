"""What maps show, beside brute force: cells and tiles, their colours, and the numbers of addresses."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.core.progress import silent
from s6tls.audit.picture import hilbert, scenes
from s6tls.audit.picture.palette import CHANGES, COLOURINGS, Shade, Swatch, change
from s6tls.audit.picture.survey import Survey, Tile, plane, tiling
from tests.support.rules import spaces

CERTIFICATE = Rule(True, ((b"CERTFILE", b"/a.pem"), (b"KEYFILE", b"/a.key")))
OTHER_CERTIFICATE = Rule(True, ((b"CERTFILE", b"/b.pem"),))
USER = Rule(True, ((b"GID", b"7"), (b"UID", b"7")))
RULES = (Rule(True), Rule(False), CERTIFICATE, OTHER_CERTIFICATE, USER)
SEVERAL = "several in one place, "
ORDER = 2  # 16 cells, each a /4


@st.composite
def wide_rule_sets(draw: st.DrawFn) -> spaces.Rules:
    """Rules for IPv4 networks of /8 and wider, so that 256 addresses stand for all."""
    found: spaces.Rules = {}
    for _ in range(draw(st.integers(0, 12))):
        length = draw(st.integers(0, 8))
        number = draw(st.integers(0, 255)) >> 8 - length << 8 - length
        found[Family.IP4.key(number << 24, length)] = draw(st.sampled_from(RULES))
    return found


def decide(rules: spaces.Rules, number: int) -> tuple[bytes | None, Rule | None]:
    return spaces.decide(rules, Family.IP4, number << 24)


def described(colour_by: str, key: bytes | None, rule: Rule | None) -> str:
    """What the legend says of a decision."""
    if rule is None:
        return "undecided"
    if colour_by == "rule":
        return f"rules that {'allow' if rule.allow else 'deny'}, in turn"
    if not rule.allow:
        return "denied"
    env = {name.decode(): (value or b"").decode() for name, value in rule.env}
    if colour_by == "certificate":
        return f"CERTFILE={env['CERTFILE']}" if "CERTFILE" in env else "allowed, no certificate set"
    if colour_by == "user":
        return f"GID={env['GID']} UID={env['UID']}" if "UID" in env else "allowed, no user set"
    return "allowed"


def by_label(scene: scenes.Scene, family: Family) -> dict[str, int]:
    return {entry.label: entry.counts[family] for entry in scene.legend if entry.counts[family]}


def cell_labels(survey: Survey) -> list[str]:
    return [survey.swatches[swatch].label for swatch in plane(survey, ORDER).cells]


# IPv4


@given(wide_rule_sets(), st.sampled_from(sorted(COLOURINGS)))
def test_cells_agree_with_brute_force(rules: spaces.Rules, colour_by: str) -> None:
    contents = LoadedRules.of(rules.items())
    survey = Survey.of(contents, COLOURINGS[colour_by](contents), Family.IP4, silent)
    labels = cell_labels(survey)
    for cell, label in enumerate(labels):
        decisions = [decide(rules, number) for number in range(16 * cell, 16 * cell + 16)]
        outcomes = {(described(colour_by, key, rule), key if colour_by == "rule" else None) for key, rule in decisions}
        if len(outcomes) == 1:
            assert label == outcomes.pop()[0]
        else:
            is_allowed = any(rule is not None and rule.allow for _, rule in decisions)
            assert label == SEVERAL + ("some allowed" if is_allowed else "none allowed")


@given(wide_rule_sets(), st.sampled_from(sorted(COLOURINGS)))
def test_the_legend_counts_all_addresses(rules: spaces.Rules, colour_by: str) -> None:
    scene = scenes.scene(LoadedRules.of(rules.items()), colour_by, order=ORDER)
    expected: dict[str, int] = {}
    for number in range(256):
        label = described(colour_by, *decide(rules, number))
        expected[label] = expected.get(label, 0) + (1 << 24)
    assert by_label(scene, Family.IP4) == expected
    assert by_label(scene, Family.IP6) == {"undecided": 2**128}


BECOMES = {
    ("allow", "allow"): "allowed as before",
    ("deny", "deny"): "denied as before",
    ("none", "none"): "undecided as before",
    ("deny", "allow"): "newly allowed",
    ("none", "allow"): "newly allowed",
    ("allow", "deny"): "newly denied",
    ("none", "deny"): "newly denied",
    ("allow", "none"): "newly undecided",
    ("deny", "none"): "newly undecided",
}


def changed(before: Rule | None, after: Rule | None) -> str:
    if before and after and before.allow and after.allow and before != after:
        return "allowed, but other env or exec"
    verdicts = ["none" if rule is None else "allow" if rule.allow else "deny" for rule in (before, after)]
    return BECOMES[verdicts[0], verdicts[1]]


@given(wide_rule_sets(), wide_rule_sets())
def test_cells_of_changes_agree_with_brute_force(old: spaces.Rules, new: spaces.Rules) -> None:
    survey = Survey.of_changes(LoadedRules.of(old.items()), LoadedRules.of(new.items()), Family.IP4, silent)
    for cell, label in enumerate(cell_labels(survey)):
        numbers = range(16 * cell, 16 * cell + 16)
        outcomes = {changed(decide(old, number)[1], decide(new, number)[1]) for number in numbers}
        if len(outcomes) == 1:
            assert label == outcomes.pop()
        elif "newly allowed" in outcomes:
            assert label == SEVERAL + "some newly allowed"
        else:
            has_changes = any(not outcome.endswith("as before") for outcome in outcomes)
            assert label == SEVERAL + ("some changed" if has_changes else "none changed")
    assert sum(survey.counts) == 2**32


def test_a_single_address_that_is_allowed_shows() -> None:
    rules = {b"ip4/0.0.0.0_0": Rule(False), b"ip4/10.20.30.40_32": Rule(True)}
    contents = LoadedRules.of(rules.items())
    survey = Survey.of(contents, COLOURINGS["verdict"](contents), Family.IP4, silent)
    chart = plane(survey, scenes.COARSE)
    labels = [survey.swatches[swatch].label for swatch in chart.cells]
    assert labels.index("several in one place, some allowed") == 10 * 256 + 20
    assert labels.count("denied") == 65535


def test_the_decisions_of_blocks() -> None:
    rules = {b"ip4/8.0.0.0_6": Rule(True), b"ip4/10.1.0.0_16": Rule(False), b"ip4/10.1.1.0_24": Rule(True)}
    contents = LoadedRules.of(rules.items())
    survey = Survey.of(contents, COLOURINGS["verdict"](contents), Family.IP4, silent)
    block = plane(survey, ORDER).blocks[10]
    assert (survey.partition.key(block.rule), block.inside, block.first_inside) == (
        b"ip4/8.0.0.0_6",
        2,
        b"ip4/10.1.0.0_16",
    )
    assert {survey.swatches[swatch].label: number for swatch, number in block.counts.items()} == {
        "allowed": 2**24 - 2**16 + 2**8,
        "denied": 2**16 - 2**8,
    }


# IPv6


def all_tiles(tile: Tile) -> list[Tile]:
    return [tile, *(found for inner in tile.tiles for found in all_tiles(inner))]


@given(spaces.rule_sets(), spaces.families)
def test_every_rule_has_a_tile_within_that_of_the_next_wider_one(rules: spaces.Rules, family: Family) -> None:
    contents = LoadedRules.of(rules.items())
    survey = Survey.of(contents, COLOURINGS["verdict"](contents), family, silent)
    whole = tiling(survey)
    partition = contents.partition(family)
    parents = {
        (inner.number, inner.length): (tile.number, tile.length) if tile.rules else None
        for tile in all_tiles(whole)
        for inner in tile.tiles
    }
    networks = list(zip(partition.numbers, partition.lengths, strict=True))
    assert parents == {
        network: None if parent < 0 else networks[parent]
        for network, parent in zip(networks, partition.parents(), strict=True)
    }
    decided = dict(zip(networks, partition.decided(), strict=False))
    for tile in all_tiles(whole)[1:]:
        rule = contents.rules[family.key(tile.number, tile.length)]
        verdict = 0 if rule.allow else 1
        assert tile.swatch == (verdict if decided[tile.number, tile.length] else None)
    assert whole.weight == len(partition)


@given(spaces.rule_sets(), spaces.families, st.integers(1, 8))
def test_rules_put_together_agree_with_brute_force(rules: spaces.Rules, family: Family, most: int) -> None:
    contents = LoadedRules.of(rules.items())
    survey = Survey.of(contents, COLOURINGS["verdict"](contents), family, silent)
    whole = tiling(survey, most)
    tiles = all_tiles(whole)[1:]
    assert len(tiles) <= most
    assert sum(tile.rules for tile in tiles) == whole.weight == len(survey.networks)
    for tile in tiles:
        if tile.length < family.bits - 8:
            continue
        mine = set(addresses(tile, family)).difference(*(addresses(inner, family) for inner in tile.tiles))
        found = {spaces.decide(rules, family, number)[1] for number in mine}
        verdicts = {None if rule is None else rule.allow for rule in found}
        label = None if tile.swatch is None else survey.swatches[tile.swatch].label
        if len(verdicts) > 1:
            assert label == SEVERAL + ("some allowed" if True in verdicts else "none allowed")
        else:
            assert label == {True: "allowed", False: "denied", None: "undecided"}[verdicts.pop()] if mine else not label


def addresses(tile: Tile, family: Family) -> range:
    return range(tile.number, tile.number + (1 << family.bits - tile.length))


def test_tiles_of_a_change_are_those_of_both_sets() -> None:
    old = LoadedRules.of([(b"ip6/2001:db8::_32", Rule(True))])
    new = LoadedRules.of([(b"ip6/2001:db8:1::_48", Rule(False))])
    survey = Survey.of_changes(old, new, Family.IP6, silent)
    outer = tiling(survey).tiles[0]
    labels = [survey.swatches[tile.swatch or 0].label for tile in (outer, *outer.tiles)]
    assert labels == ["newly undecided", "newly denied"]


# Colours


def test_the_most_common_settings_have_colours_of_their_own() -> None:
    rules = {}
    for number in range(9):
        for copy in range(9 - number):
            rule = Rule(True, ((b"CERTFILE", b"/%d.pem" % number),))
            rules[Family.IP4.key((number << 8 | copy) << 16, 16)] = rule
    scene = scenes.scene(LoadedRules.of(rules.items()), "certificate", order=ORDER)
    assert [entry.label for entry in scene.legend if entry.counts[Family.IP4]] == [
        *(f"CERTFILE=/{number}.pem" for number in range(6)),
        "other certificates (3)",
        "undecided",
    ]
    assert by_label(scene, Family.IP4)["other certificates (3)"] == (3 + 2 + 1) << 16


def test_certificates_for_names_count_too() -> None:
    rule = Rule(True, ((b"CERTFILE:example.org", b"/a\n.pem"), (b"CERTFILES", b"/b.pem")))
    scene = scenes.scene(LoadedRules.of([(b"ip4/0.0.0.0_0", rule)]), "certificate", order=ORDER)
    assert by_label(scene, Family.IP4) == {"CERTFILE:example.org=/a\\x0a.pem": 2**32}


@pytest.mark.parametrize("before", [None, *RULES])
@pytest.mark.parametrize("after", [None, *RULES])
def test_what_becomes_of_a_decision(before: Rule | None, after: Rule | None) -> None:
    shade = change(before, after)
    assert isinstance(shade, Shade)
    assert CHANGES[shade.swatch].label == changed(before, after)


# Scenes


def test_cells_stand_where_the_curve_has_them() -> None:
    scene = scenes.scene(LoadedRules.of([(b"ip4/192.0.0.0_2", Rule(True))]), order=scenes.COARSE)
    (cells,) = [shape for shape in scene.shapes if isinstance(shape, scenes.Cells)]
    x, y, width, height = hilbert.box(192 << 24, 2, 32)
    for row in range(256):
        for column in range(256):
            inside = x <= column << 8 < x + width and y <= row << 8 < y + height
            assert cells.colours[cells.cells[row << 8 | column]] == ("#0072b2" if inside else "#e6e6e6")


def test_wide_rules_are_named_where_they_decide() -> None:
    rules = {b"ip4/0.0.0.0_0": Rule(False), b"ip4/10.0.0.0_8": Rule(True), b"ip4/11.1.0.0_16": Rule(True)}
    scene = scenes.scene(LoadedRules.of(rules.items()))
    texts = {shape.text: shape for shape in scene.shapes if isinstance(shape, scenes.Text)}
    number, name = texts["10"], texts["10.0.0.0_8"]
    assert abs(name.x - number.x - 28) < 1 and 0 < name.y - number.y < 64
    assert {"0.0.0.0_0", "11.1.0.0_16"} <= texts.keys()


@settings(max_examples=30)
@given(spaces.rule_sets(most=40))
def test_labels_do_not_overlap(rules: spaces.Rules) -> None:
    scene = scenes.scene(LoadedRules.of(rules.items()), order=ORDER)
    lines: dict[float, list[tuple[float, float]]] = {}
    for shape in scene.shapes:
        if isinstance(shape, scenes.Text):
            width = len(shape.text) * shape.size * 0.55
            left = shape.x - {"start": 0, "middle": width / 2, "end": width}[shape.anchor]
            assert left >= 0 and left + width <= scene.width and 0 < shape.y < scene.height
            lines.setdefault(shape.y, []).append((left, left + width))
    for spans in lines.values():
        assert all(one[1] <= other[0] for one, other in pairwise(sorted(spans)))


@settings(max_examples=8)
@given(spaces.rule_sets(most=40))
def test_labels_hide_no_cell_that_differs_from_those_around_it(rules: spaces.Rules) -> None:
    scene = scenes.scene(LoadedRules.of(rules.items()))
    (plane,) = [shape for shape in scene.shapes if isinstance(shape, scenes.Cells)]
    columns, (left, top, width, _) = 1 << plane.order, plane.area
    labels = [shape for shape in scene.shapes if isinstance(shape, scenes.Text) and shape.halo]
    assert labels
    for x, y, size, text, anchor, _, halo in labels:
        wide = len(text) * size * 0.55
        start = x - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
        across = range(int((start - left) * columns / width), int((start + wide - left) * columns / width) + 1)
        down = range(int((y - 0.8 * size - top) * columns / width), int((y - top) * columns / width) + 1)
        assert {plane.colours[plane.cells[row * columns + column]] for row in down for column in across} == {halo}


def test_a_map_of_nothing() -> None:
    scene = scenes.scene(LoadedRules({}))
    assert [(entry.label, entry.counts) for entry in scene.legend] == [
        ("undecided", {Family.IP4: 2**32, Family.IP6: 2**128})
    ]


def test_text_stands_out_from_every_colour() -> None:
    colours = {swatch.colour for make in COLOURINGS.values() for swatch in make(LoadedRules({})).swatches}
    for colour in colours:
        assert contrast(colour, scenes.text_colour(colour)) >= 4, colour


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [c / 255 for c in bytes.fromhex(colour[1:])]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_swatches_are_told_apart() -> None:
    contents = LoadedRules.of([(b"ip4/0.0.0.0_0", CERTIFICATE)])
    for make in COLOURINGS.values():
        swatches: tuple[Swatch, ...] = make(contents).swatches
        assert len({swatch.colour for swatch in swatches}) == len(swatches)
