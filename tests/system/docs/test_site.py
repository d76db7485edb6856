"""The manual as a site: mkdocs finds no fault with its links and anchors, and docs/index.md leads to every page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_the_index_has_each_page_below_a_heading_with_what_it_is_about() -> None:
    """A page that is missing here belongs into a list or a table of docs/index.md, which navigation is made of."""
    index = (ROOT / "docs/index.md").read_text()
    below = index[index.index("\n## ") :]
    items = re.findall(r"^- \[[^]]+\]\(([^)]+)\): \S", below, re.MULTILINE)
    rows = [cell for cell, about in re.findall(r"^\| (\[.*?) \| (.*) \|$", below, re.MULTILINE) if about]
    assert {*items, *(page for cell in rows for page in re.findall(r"\(([^)]+)\)", cell))} == PAGES


def test_mkdocs_makes_a_site_of_all_of_it(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    home = (tmp_path / "index.html").read_text()
    assert {f"{page.removesuffix('.md')}/" for page in PAGES} <= set(re.findall('href="([^"]*)"', home))
    assert (tmp_path / "rules/partners/index.html").exists()
    hello = re.findall('href="([^"]*hello.service)"', (tmp_path / "services/index.html").read_text())[0]
    assert (tmp_path / "services" / hello).resolve().read_text().startswith("[Unit]")
