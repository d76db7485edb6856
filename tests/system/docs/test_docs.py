"""The manual mentions only options that there are, and its links lead somewhere."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from s6tls.cli import s6_accessrules
from s6tls.cli.frame.options import Synopsis

ROOT = Path(__file__).parents[3]
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

OTHERS: dict[str, set[str]] = {
    "s6-accessrules lint": {"-U", "--allow-root-engine"},
    "s6-accessrules": {"--json"},
    "s6-accessrules expect": {"-H"},
    "s6-accessrules explain": {"-p"},
    "s6-accessrules export": {"-H"},
    "s6-accessrules sync": {"-H", "--rules-on"},
    "s6-accessrules-cdb-from-fs": {"-i", "-x"},
    "s6-envuidgid": {"-U"},
    "s6-tlsserver-status": {"--status", "--rate", "-c", "-C"},
}
"""Options of other commands that a page speaks of."""

_CODE = re.compile(r"`([^`]+)`")
_FLAG = re.compile(r"--?[A-Za-z0-9][A-Za-z0-9-]*")


def synopsis(command: str) -> Synopsis:
    if command in SUBCOMMANDS:
        found = s6_accessrules.subcommand(command.split()[1]).SYNOPSIS
    else:
        found = importlib.import_module(f"s6tls.cli.{SCRIPTS[command].partition(':')[2]}").SYNOPSIS
    assert isinstance(found, Synopsis)
    return found


def page_of(command: str) -> str:
    return f"{command.replace(' ', '-')}.md"


def names(command: str) -> set[str]:
    """Every way to write an option of this command."""
    options = synopsis(command).options
    letters = {f"-{option.letter}" for option in options if option.letter}
    return letters | {f"--{name}" for option in options for name in option.long} | {"--help", "--version"}


def flag(code: str) -> str | None:
    """The option that a piece of code begins with, without its value; `-k1` is `-k`."""
    found = _FLAG.match(code)
    return None if found is None else found[0] if found[0].startswith("--") else found[0][:2]


def without_examples(text: str) -> str:
    return re.sub(r"^    [^\n]*$|^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", EVERY)
def test_what_an_option_does_is_said_in_a_cell(command: str) -> None:
    for option in synopsis(command).options:
        assert len(option.help) < 200 and option.help.isprintable() and "|" not in option.help
        assert not option.help.endswith(".") and not option.help[0].isupper()


@pytest.mark.parametrize("command", EVERY)
def test_a_page_mentions_no_other_options(command: str) -> None:
    text = without_examples((DOCS / page_of(command)).read_text())
    mentioned = {found for code in _CODE.findall(text) if (found := flag(code))}
    assert mentioned - names(command) == OTHERS.get(command, set())


@pytest.mark.parametrize("command", EVERY)
def test_a_page_has_its_title_tells_the_exit_codes_and_is_in_the_index(command: str) -> None:
    text = (DOCS / page_of(command)).read_text()
    assert text.startswith(f"# {command}\n")
    assert "\n## Exit codes\n" in text
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


@pytest.mark.parametrize(
    "example",
    [
        *("s6/hello/run", "runit/hello/run", "daemontools/hello/run", "supervisord/hello.conf"),
        *("systemd/hello.socket", "systemd/hello.service"),
    ],
)
def test_the_page_on_services_quotes_the_examples(example: str) -> None:
    assert f"```\n{(ROOT / 'examples' / example).read_text()}```\n" in (DOCS / "services.md").read_text()


@pytest.mark.parametrize("example", ["certbot-deploy", "lego-hook"])
def test_the_page_on_acme_quotes_the_hooks(example: str) -> None:
    assert f"```\n{(ROOT / 'examples/acme' / example).read_text()}```\n" in (DOCS / "acme.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_wrapped_and_cells_are_short(page: Path) -> None:
    """A line of prose has at most 120 characters, a cell of a table at most 200."""
    for line in without_examples(page.read_text()).splitlines():
        if line.startswith("|"):
            assert all(len(cell.strip()) <= 200 for cell in re.split(r"(?<!\\)\|", line)), line
        elif not line.startswith("!["):
            assert len(line) <= 120, line
