"""The manual pages that tools/man-pages makes of docs/: man finds them, mandoc and groff take them as they are."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from s6tls.cli import s6_accessrules
from s6tls.cli.frame.options import Synopsis

ROOT = Path(__file__).parents[3]
PAGES = {page.stem for page in (ROOT / "docs").glob("*.md")}
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("share") / "man"
    subprocess.run([sys.executable, str(ROOT / "tools/man-pages"), str(place)], check=True)
    return place


def said(*words: str, path: Path | None = None) -> str:
    """What a command says, on both of its outputs, on a terminal of 80 columns."""
    env = {"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPATH": str(path or "")}
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.stdout


def synopses() -> dict[str, Synopsis]:
    modules = {name: importlib.import_module(f"s6tls.cli.{to.partition(':')[2]}") for name, to in SCRIPTS.items()}
    modules |= {f"s6-accessrules-{name}": s6_accessrules.subcommand(name) for name, _ in s6_accessrules.COMMANDS}
    return {name: module.SYNOPSIS for name, module in modules.items()}


def test_each_page_of_the_docs_is_one_of_the_manual(manual: Path) -> None:
    commands = {page.stem for page in manual.glob("man8/*.8")}
    assert commands == synopses().keys()
    assert {page.stem for page in manual.glob("man7/*.7")} == {"s6tls"} | {
        f"s6tls-{page}" for page in PAGES - commands - {"index"}
    }


def test_each_page_says_in_a_line_what_it_is_about(manual: Path) -> None:
    for page in manual.glob("man?/*"):
        text = page.read_text().replace("\\-", "-")
        assert re.search(rf"^\.SH NAME\n{re.escape(page.stem)} - \S.{{4,}}$", text, re.MULTILINE), page


def test_mandoc_and_groff_have_nothing_to_say(manual: Path) -> None:
    pages = sorted(map(str, manual.glob("man?/*")))
    assert said("mandoc", "-T", "lint", "-W", "warning", *pages) == ""
    assert said("sh", "-c", 'exec groff -ww -b -t -man -Tutf8 "$@" 2>&1 >/dev/null', "sh", *pages) == ""


def test_man_finds_a_page_and_shows_it(manual: Path) -> None:
    lines = said("man", "s6-tlsd", path=manual).splitlines()
    assert lines[lines.index("NAME") + 1].strip() == "s6-tlsd - does TLS for one client"
    headings = [line for line in lines if line and not line.startswith(" ")]
    assert headings[1:5] == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"]
    assert headings[-2] == "SEE ALSO"
    assert "s6-tlsd-io(8)" in "".join(lines)
    assert max(map(len, lines[: lines.index("OPTIONS")])) <= 80
    assert said("man", "-w", "7", "s6tls-design", path=manual).strip().endswith("man7/s6tls-design.7")


@pytest.mark.parametrize("command", ["s6-tlsserver", "s6-accessrules-lint"])
def test_every_option_is_there(manual: Path, command: str) -> None:
    text = said("mandoc", "-T", "ascii", "-O", "width=200", str(manual / f"man8/{command}.8"))
    plain = re.sub(".\b", "", text)
    for option in synopses()[command].options:
        names = [f"-{option.letter}"] * bool(option.letter) + [f"--{name}" for name in option.long]
        for name in names:
            assert re.search(rf"^ +(?:.*, )?{name}\b", plain, re.MULTILINE), name


def test_what_a_reader_would_not_see_is_not_lost(manual: Path) -> None:
    """Dots and quotes that begin a line, backslashes, and what is not ASCII."""
    page = (manual / "man7/s6tls-rules.7").read_text()
    assert page.isascii()
    text = said("mandoc", "-T", "utf8", str(manual / "man7/s6tls-rules.7"))
    plain = re.sub(".\b", "", text)
    assert r'"echo \"come back tomorrow\""' in plain
    assert "… ip4/0.0.0.0_0" in plain
