"""s6-accessrules map as a process: files drawn, numbers told, and what cannot be drawn."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from s6tls.accessrules import Rule
from s6tls.accessrules.cdb import write_cdb
from tests.support.commands import answer, run, said
from tests.support.rules import trees

COMMAND = ["s6-accessrules", "map"]
RULES = {
    b"ip4/0.0.0.0_0": Rule(False),
    b"ip4/10.0.0.0_8": Rule(True, ((b"CERTFILE", b"/a.pem"), (b"UID", b"7"))),
    b"ip6/2001:db8::_32": Rule(True),
}


@pytest.fixture
def tree(tmp_path: Path) -> str:
    trees.write_tree(os.fsencode(tmp_path / "rules"), RULES)
    return str(tmp_path / "rules")


@pytest.fixture
def new(tmp_path: Path) -> str:
    write_cdb(str(tmp_path / "new.cdb"), [*list(RULES.items())[:2], (b"ip4/11.0.0.0_8", Rule(True))])
    return str(tmp_path / "new.cdb")


def labels(path: Path) -> list[str]:
    return [element.text or "" for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_svg(tree: str, tmp_path: Path) -> None:
    done = run([*COMMAND, tree, str(tmp_path / "map.svg")])
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["colour", "IPv4", "addresses", "IPv6", "addresses"],
        ["allowed", "16,777,216", f"{2**96:,}"],
        ["denied", f"{2**32 - 2**24:,}", "0"],
        ["undecided", "0", f"{2**128 - 2**96:,}"],
    ]
    assert {"10.0.0.0_8", "2001:db8::_32", f"{tree} by verdict"} <= set(labels(tmp_path / "map.svg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.svg", "rules"]


def test_png(tree: str, tmp_path: Path) -> None:
    done = run([*COMMAND, tree, str(tmp_path / "map.PNG"), "--colour-by", "user"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "UID=7" in done.stdout
    with Image.open(tmp_path / "map.PNG") as image:
        assert image.format == "PNG" and min(image.size) > 1024
        # in the middle of the /8 network 10, which is the fourth from the left and from the top
        assert image.convert("RGB").getpixel((24 + 3 * 64 + 32, 84 + 3 * 64 + 44)) == (0x00, 0x72, 0xB2)


def test_json(tree: str, tmp_path: Path) -> None:
    done = run([*COMMAND, "--json", "--colour-by=certificate", tree, str(tmp_path / "map.svg")])
    assert (done.returncode, done.stderr) == (0, "")
    found = answer(done)
    assert found["out"] == str(tmp_path / "map.svg")
    assert found["families"]["ip4"][0] == {"label": "CERTFILE=/a.pem", "colours": ["#0072b2"], "addresses": 2**24}
    sums = {family: sum(int(entry["addresses"]) for entry in entries) for family, entries in found["families"].items()}
    assert sums == {"ip4": 2**32, "ip6": 2**128}


def test_against(tree: str, new: str, tmp_path: Path) -> None:
    done = run([*COMMAND, "--json", f"--against={new}", tree, str(tmp_path / "map.svg")])
    assert (done.returncode, done.stderr) == (0, "")
    families = answer(done)["families"]
    assert {entry["label"]: entry["addresses"] for entry in families["ip4"]} == {
        "newly allowed": 2**24,
        "allowed as before": 2**24,
        "denied as before": 2**32 - 2**25,
    }
    assert {entry["label"]: int(entry["addresses"]) for entry in families["ip6"]} == {
        "newly undecided": 2**96,
        "undecided as before": 2**128 - 2**96,
    }
    title = f"From {tree} to {new}"[:60]  # of long paths no more may be there
    assert any(label.startswith(title) for label in labels(tmp_path / "map.svg"))


def test_the_last_of_against_and_colour_by_counts(tree: str, new: str, tmp_path: Path) -> None:
    def pixels(*options: str) -> bytes:
        assert run([*COMMAND, *options, tree, str(tmp_path / "map.svg")]).returncode == 0
        return (tmp_path / "map.svg").read_bytes()

    by_user, against = "--colour-by=user", f"--against={new}"
    assert pixels(by_user, against) == pixels(against) != pixels(by_user) == pixels(against, by_user)


@pytest.mark.parametrize("out", ["map.jpg", "map", "map.svg.gz", "svg"])
def test_what_is_no_ending(tree: str, tmp_path: Path, out: str) -> None:
    code, stderr = said([*COMMAND, tree, str(tmp_path / out)])
    assert code == 100
    assert f"usage: neither .png nor .svg: {tmp_path}/{out}; " in stderr
    assert not (tmp_path / out).exists()


def test_wrong_options(tree: str, tmp_path: Path) -> None:
    out = str(tmp_path / "map.svg")
    assert said([*COMMAND, tree, out, "--colour-by=taste"])[0] == 100
    assert said([*COMMAND, tree])[0] == 100
    assert not os.path.exists(out)


def test_what_cannot_be_read_or_written(tree: str, tmp_path: Path) -> None:
    out = str(tmp_path / "map.svg")
    for words in ([str(tmp_path / "no"), out], [tree, out, f"--against={tmp_path}/no"]):
        code, stderr = said([*COMMAND, *words])
        assert (code, stderr.count("\n")) == (111, 1)
        assert f"unable to read {tmp_path}/no: " in stderr
    assert not os.path.exists(out)
    code, stderr = said([*COMMAND, tree, str(tmp_path / "no" / "map.svg")])
    assert (code, stderr.count("\n")) == (111, 1)
    assert f"unable to write {tmp_path}/no/map.svg: " in stderr


def test_what_cannot_be_replaced_leaves_nothing_behind(tree: str, tmp_path: Path) -> None:
    (tmp_path / "map.svg").mkdir()
    code, _ = said([*COMMAND, tree, str(tmp_path / "map.svg")])
    assert code == 111
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.svg", "rules"]


def test_a_name_that_is_no_text(tree: str, tmp_path: Path) -> None:
    out = os.fsencode(tmp_path) + b"/\xff<\x1b>.svg"
    done = run([*COMMAND, "--json", tree, out])
    assert (done.returncode, done.stderr) == (0, "")
    assert answer(done)["out"].endswith("/\\xff<\x1b>.svg")
    assert os.path.exists(out)
