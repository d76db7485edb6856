"""The shape of the code: no circles, rooms that can be taken in at a glance, and what stands alone does.

The tests keep to it too.  None of them imports another one: what several use is in tests/support.

Which room may import which is on the page of the architecture, and tested with it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MOST_LINES = 400
MOST_MODULES = 16
MOST_COMMANDS = 24
"""Each command is a module of `cli`, and each subcommand one of `cli/accessrules`, so there are more of them."""
COMMANDS = (ROOT / "s6tls/cli", ROOT / "s6tls/cli/accessrules")

ALONE = {"accessrules": {"accessrules"}, "pki": {"pki", "accessrules"}, "audit": {"audit", "pki", "accessrules"}}
"""Packages that are of use without the servers, and all that may be loaded with them."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in (ROOT / "s6tls").rglob("*.py")}
TESTS = {name_of(path): path for path in (ROOT / "tests").rglob("*.py")}


def imported(path: Path, modules: dict[str, Path] = MODULES) -> set[str]:
    """Those of `modules` that one imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys() or {str(node.module)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules.keys()


def test_no_modules_import_each_other_in_a_circle() -> None:
    order = tuple(TopologicalSorter({name: imported(path) for name, path in MODULES.items()}).static_order())
    assert len(order) == len(MODULES)  # CycleError names the circle


def test_no_folder_has_more_modules_than_can_be_taken_in() -> None:
    modules = [*MODULES.values(), *TESTS.values()]
    sizes = Counter(path.parent for path in modules if path.name not in ("__init__.py", "conftest.py"))
    for folder, size in sizes.items():
        assert size <= (MOST_COMMANDS if folder in COMMANDS else MOST_MODULES), folder


@pytest.mark.parametrize("folder", ["s6tls", "tests", "fuzz"])
def test_no_module_is_too_long_to_read(folder: str) -> None:
    lines = {str(path): path.read_text().count("\n") for path in (ROOT / folder).rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_nothing_imports_a_test_module() -> None:
    found = {name: imported(path, TESTS) for name, path in TESTS.items()}
    assert any(found.values())
    assert {name: used for name, used in found.items() if any(not is_support(module) for module in used)} == {}


def is_support(module: str) -> bool:
    return module.startswith("tests.support.")


@pytest.mark.parametrize("package", ALONE)
def test_what_stands_alone_loads_nothing_of_the_servers(package: str) -> None:
    names = [name for name in MODULES if name.split(".")[:2] == ["s6tls", package]]
    program = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
        "print(*{name.split('.')[1] for name in sys.modules if name.startswith('s6tls.')})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == ALONE[package]
