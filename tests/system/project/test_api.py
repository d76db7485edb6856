"""What docs/api.md says is public is what the modules offer, and all that the manual imports."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import s6tls

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/api.md").read_text()
PUBLIC: dict[str, list[str]] = {
    module: re.findall(r"`([^`]+)`", names)
    for module, names in re.findall(r"^\| `(s6tls[^`]*)` \| (.*) \|$", PAGE, re.MULTILINE)
}
IMPORT = re.compile(r"^ *from (s6tls[\w.]*) import (.*)$", re.MULTILINE)


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_module_offers_what_the_page_says(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__all__ == PUBLIC[module]
    for name in found.__all__:
        value = getattr(found, name)
        assert not (inspect.isclass(value) or inspect.isroutine(value)) or value.__doc__


def test_no_other_module_offers_anything() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "s6tls").rglob("*.py")
        if re.search(r"^__all__\b", path.read_text(), re.MULTILINE)
    }
    assert modules == set(PUBLIC)


def test_the_manual_imports_nothing_else() -> None:
    imported = [
        (module, name)
        for page in sorted((ROOT / "docs").glob("**/*.md"))
        for module, names in IMPORT.findall(page.read_text())
        for name in names.split(", ")
    ]
    assert len(imported) > 20
    assert [pair for pair in imported if not is_public(*pair)] == []


def is_public(module: str, name: str) -> bool:
    return name in PUBLIC.get(module, ()) or f"{module}.{name}" in PUBLIC


def test_a_wheel_has_the_types_the_licence_and_the_version(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "s6tls", source / "s6tls", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "--wheel-dir", tmp_path, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"s6tls-{s6tls.__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    information = f"s6tls-{s6tls.__version__}.dist-info"
    assert {"s6tls/py.typed", f"{information}/licenses/LICENSE"} <= names
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "s6tls").rglob("*.py")} <= names
