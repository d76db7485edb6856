"""The scripts that pip has written get an interpreter that ignores variables meant for programs."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[3] / "tools/install-venv"
OURS = "from s6tls.cli.start import s6_tlsd\n"
OTHERS = {
    "another package's": "#!{}/python\nfrom pip import main\n",
    "a long path's": "#!/bin/sh\n'''exec' '{}/python' \"$0\" \"$@\"\n" + OURS,
    "another interpreter's": "#!/usr/bin/python3\n" + OURS,
    "empty": "",
}


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool as a module; the commands of its .venv are in a directory of the test."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = importlib.machinery.SourceFileLoader("install_venv", str(TOOL))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    module.__dict__["PYTHON"] = str(tmp_path / "python")
    return module


@pytest.mark.parametrize("python", ["python", "python3", "python3.11"])
def test_our_commands_get_an_option_once(tool: ModuleType, tmp_path: Path, python: str) -> None:
    script = tmp_path / "s6-tlsd"
    script.write_text(f"#!{tmp_path}/{python}\n{OURS}")
    script.chmod(0o755)
    for _ in range(2):
        tool.isolate_commands()
        assert script.read_text() == f"#!{tmp_path}/{python} -I\n{OURS}"
        assert script.stat().st_mode & 0o777 == 0o755
    assert list(tmp_path.iterdir()) == [script]


@pytest.mark.parametrize("what", OTHERS)
def test_other_scripts_are_left_alone(tool: ModuleType, tmp_path: Path, what: str) -> None:
    text = OTHERS[what].format(tmp_path)
    script = tmp_path / "other"
    script.write_text(text)
    (tmp_path / "link").symlink_to(script)
    (tmp_path / "directory").mkdir()
    before = script.stat().st_ino
    tool.isolate_commands()
    assert (script.read_text(), script.stat().st_ino) == (text, before)
