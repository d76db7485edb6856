"""The examples of docs/audits.md run as they stand, and print what it says."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from pathlib import Path

import pytest

from s6tls.cli import s6_accessrules

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/audits.md").read_text()

_EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:```\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def test_the_examples_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "rules", tmp_path / "rules")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    examples = list(_EXAMPLE.finditer(PAGE))
    assert len(examples) == PAGE.count("```python")
    for example in examples:
        code, output = example.groups()
        # Line breaks in front, so that a traceback has the numbers of the page's lines.
        before = PAGE.count("\n", 0, example.start(1))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile("\n" * before + code, "docs/audits.md", "exec"), names)
        assert printed.getvalue() == (output or "")


def test_every_subcommand_has_its_section_in_their_order() -> None:
    headings = re.findall(r"^## (.*)", PAGE, re.MULTILINE)
    assert [name for heading in headings for name in heading.split(", ")] == [
        name for name, _ in s6_accessrules.COMMANDS
    ]
    for name, _ in s6_accessrules.COMMANDS:
        assert f"](s6-accessrules-{name}.md)" in PAGE
