"""What mkdocs cannot know: docs/index.md is the navigation, and files outside docs/ that pages link to are in the site.

mkdocs.yml names this file.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)")
README = "readme.md"  # README.md itself would take the place of index.md


def on_config(config: MkDocsConfig) -> None:
    """Make the navigation of the lists and tables in docs/index.md, and of its headings."""
    groups: list[tuple[str, list[dict[str, str]]]] = []
    for line in (ROOT / "docs/index.md").read_text().splitlines():
        if line.startswith("## "):
            groups.append((line.removeprefix("## "), []))
        elif groups and line.startswith(("- [", "| [")):
            entries = line.partition(": ")[0] if line.startswith("-") else line.split("|")[1]
            links = re.findall(r"\[([^]]*)\]\(([^)#]*\.md)\)", entries)
            groups[-1][1].extend({title: place_in_site(posixpath.join("docs", target))} for title, target in links)
    config.nav = [{"Home": "index.md"}, *({heading: entries} for heading, entries in groups if entries)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what stands outside docs/: rule sets, examples, and the pages of the project."""
    from mkdocs.structure.files import File

    outside = [
        *ROOT.glob("*.md"),
        ROOT / "Containerfile",
        *(ROOT / "rules").rglob("*"),
        *(ROOT / "examples").rglob("*"),
    ]
    for path in sorted(path for path in outside if path.is_file() and "tree" not in path.parts):
        place = place_in_site(str(path.relative_to(ROOT)))
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where their files are in the site."""
    source = os.path.relpath(str(page.file.abs_src_path), ROOT)
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        return f"]({posixpath.relpath(place_in_site(there), here or '.')}{link[2] or ''})"

    return LINK.sub(moved, markdown)


def place_in_site(path: str) -> str:
    """Return where a file of the project is in the site."""
    path = posixpath.normpath(path)
    return README if path == "README.md" else path.removeprefix("docs/")
