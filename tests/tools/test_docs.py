"""The manual agrees with the option tables, and its links lead somewhere."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from s6tls.cli import s6_accessrules
from s6tls.cli.options import Synopsis

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
SUBCOMMANDS = [f"s6-accessrules {name}" for name, _ in s6_accessrules.COMMANDS]
EVERY = [*SCRIPTS, *SUBCOMMANDS]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")),
    *sorted(DOCS.glob("*.md")),
    *sorted((ROOT / "rules").rglob("*.md")),
    ROOT / "examples/README.md",
]

_CODE = re.compile(r"`([^`]+)`")
_FLAG = re.compile(r"--?[A-Za-z0-9][A-Za-z0-9-]*")


def synopsis(command: str) -> Synopsis:
    if command in SUBCOMMANDS:
        found = s6_accessrules.subcommand(command.split()[1]).SYNOPSIS
    else:
        found = importlib.import_module(SCRIPTS[command].partition(":")[0]).SYNOPSIS
    assert isinstance(found, Synopsis)
    return found


def page_of(command: str) -> str:
    return f"{command.replace(' ', '-')}.md"


def names(command: str) -> set[str]:
    """Every way to write an option of this command."""
    options = synopsis(command).options
    letters = {f"-{option.letter}" for option in options if option.letter}
    return letters | {f"--{name}" for option in options for name in option.long} | {"--help"}


def flag(code: str) -> str | None:
    """The option that a piece of code begins with, without its value; `-k1` is `-k`."""
    found = _FLAG.match(code)
    return None if found is None else found[0] if found[0].startswith("--") else found[0][:2]


def without_examples(text: str) -> str:
    return re.sub(r"^    .*$|^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", EVERY)
def test_a_page_has_the_options_that_there_are(command: str) -> None:
    text = (DOCS / page_of(command)).read_text()
    assert text.startswith(f"# {command}\n")
    rows = re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE)
    described = {flag(code) for row in rows for code in _CODE.findall(row)}
    assert described == names(command)


@pytest.mark.parametrize("command", EVERY)
def test_a_page_mentions_no_other_options(command: str) -> None:
    text = without_examples((DOCS / page_of(command)).read_text())
    mentioned = {found for code in _CODE.findall(text) if (found := flag(code))}
    assert mentioned <= names(command)


@pytest.mark.parametrize("command", EVERY)
def test_a_pages_options_have_the_values_that_they_take(command: str) -> None:
    text = (DOCS / page_of(command)).read_text()
    rows = re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE)
    written = {code for row in rows for code in _CODE.findall(row)}
    for option in synopsis(command).options:
        for value in (option.value or "").split("|"):
            if option.letter:
                assert (f"-{option.letter} {value}" if value else f"-{option.letter}") in written
            for name in option.long:
                assert (f"--{name}={value}" if value else f"--{name}") in written


@pytest.mark.parametrize("command", EVERY)
def test_a_pages_synopsis_names_every_option(command: str) -> None:
    """Unless it says `[ options ]`, for which only s6-tlsserver has so many that it may."""
    text = (DOCS / page_of(command)).read_text()
    block = re.search(rf"^    {command} (.*(?:\n {{5,}}.*)*)", text, re.MULTILINE)
    assert block is not None
    shown = block[1]
    assert shown.endswith(synopsis(command).words)
    if command == "s6-tlsserver":
        assert shown.startswith("[ options ]")
        return
    for option in synopsis(command).options:
        assert re.search(rf"[\[|] {re.escape(option.flag)}\b", shown), option.flag


@pytest.mark.parametrize("command", EVERY)
def test_a_page_tells_the_exit_codes_and_is_in_the_index(command: str) -> None:
    assert "\n## Exit codes\n" in (DOCS / page_of(command)).read_text()
    assert f"[{command}]({page_of(command)})" in (DOCS / "index.md").read_text()


@pytest.mark.parametrize(("page", "prefix"), [("s6-accessrules.md", ""), ("index.md", "s6-accessrules ")])
def test_a_page_lists_the_subcommands_as_their_help_does(page: str, prefix: str) -> None:
    rows = re.findall(
        rf"^\| \[{prefix}([a-z]+)\]\(s6-accessrules-\1\.md\) \| (.*) \|$", (DOCS / page).read_text(), re.MULTILINE
    )
    assert tuple(rows) == s6_accessrules.COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@pytest.mark.parametrize("example", ["s6/hello/run", "systemd/hello.socket", "systemd/hello.service"])
def test_the_page_on_services_quotes_the_examples(example: str) -> None:
    assert f"```\n{(ROOT / 'examples' / example).read_text()}```\n" in (DOCS / "services.md").read_text()
