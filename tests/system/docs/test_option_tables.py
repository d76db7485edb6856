"""The tables of options on the commands' pages are those of their parsers; tools/option-tables writes them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project in which pages may be changed."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/option-tables", tmp_path / "tools")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("s6tls", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(project: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(project / "tools/option-tables"), *words], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def test_the_pages_have_the_tables_of_the_parsers() -> None:
    assert run(ROOT, "--check") == (0, "")


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("s6-tlsserver", "| `-v`, `--verbose` |", "| `-v` |"),
        ("s6-envdir", "[ -I | -i ]", "[ -I ]"),
        ("s6-accessrules-lint", "report nothing milder than this", "say nothing milder than this"),
    ],
)
def test_a_page_that_differs_is_found_and_mended(name: str, right: str, wrong: str, copy: Path) -> None:
    page = copy / f"docs/{name}.md"
    text = page.read_text()
    assert right in text
    page.write_text(text.replace(right, wrong))
    assert run(copy, "--check") == (1, f"docs/{name}.md differs from the command's options: run tools/option-tables\n")
    assert wrong in page.read_text()
    assert run(copy) == (0, f"docs/{name}.md now has the command's options\n")
    assert page.read_text() == text


def test_a_page_without_a_table_is_an_error(copy: Path) -> None:
    page = copy / "docs/s6-connlimit.md"
    page.write_text(page.read_text().replace("| option | meaning |", "| options | meaning |"))
    assert run(copy) == (1, "option-tables: fatal: the page of s6-connlimit has 0 tables of options\n")
