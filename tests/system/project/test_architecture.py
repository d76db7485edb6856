"""The code keeps to the order of its packages that docs/architecture.md shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/architecture.md").read_text()
NESTED = ("audit", "cli")
"""Packages whose own packages may be rooms."""


def lines() -> list[list[str]]:
    """The page's lines of rooms, each of which may import those to its left."""
    return [line.split(" < ") for line in re.findall(r"^    (.* < .*)$", PAGE, re.MULTILINE)]


ROOMS = {room for line in lines() for room in line}


def room_of(module: str) -> str:
    """The room that a module is in; the parts are those after `s6tls`.  `__main__` is a command too."""
    first, second = (*module.replace(".__main__", ".cli").split(".")[1:], "", "")[:2]
    nested = f"{first}.{second}"
    return nested if first in NESTED and nested in ROOMS else first


def imports() -> Iterator[tuple[str, str]]:
    """Each import of the code, wherever it stands: the module, and what it imports."""
    for path in sorted((ROOT / "s6tls").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                yield from ((module, f"{node.module}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)


def is_allowed(importer: str, imported: str) -> bool:
    return any(imported in line[: line.index(importer)] for line in lines() if importer in line and imported in line)


def test_every_import_leads_to_the_left() -> None:
    between = [
        (module, imported)
        for module, imported in imports()
        if imported.startswith("s6tls.") and room_of(imported) in ROOMS - {room_of(module)}
    ]
    assert len(between) > 100
    assert [arrow for arrow in between if not is_allowed(room_of(arrow[0]), room_of(arrow[1]))] == []


def test_the_page_shows_the_packages_that_there_are() -> None:
    packages = {path.name for path in (ROOT / "s6tls").iterdir() if (path / "__init__.py").exists()}
    assert {room.partition(".")[0] for room in ROOMS} == packages
    assert {room for room in ROOMS if room.startswith("audit.")} == {
        f"audit.{path.parent.name}" for path in (ROOT / "s6tls/audit").glob("*/__init__.py")
    }


def test_the_page_names_files_that_there_are() -> None:
    for path in re.findall(r"`((?:[a-z]+/)+[a-z0-9_]+)(?:\.py)?`", PAGE):
        place = ROOT / "s6tls" / path
        assert place.with_suffix(".py").is_file() or place.is_dir(), path
