"""The lock files agree with pyproject.toml, and name no place to fetch from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
LOCKS = {
    "run": [],
    "audit": ["audit"],
    "docs": ["docs"],
    "metrics": ["metrics"],
    "sql": ["audit", "sql"],
    "test": ["audit", "docs", "metrics", "sql", "test"],
    "lowest": ["audit", "docs", "metrics", "sql", "test"],
    "fuzz": ["audit", "fuzz"],
}

_LOCKED = re.compile(r"^(\S+)==(\S+)(?: ;[^\\]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def text(lock: str) -> str:
    return (ROOT / f"requirements/{lock}.txt").read_text()


def locked(lock: str) -> dict[str, str]:
    return {name: version for name, version, _ in _LOCKED.findall(text(lock))}


def wanted(lock: str) -> list[Requirement]:
    """Everything that pyproject.toml asks for directly, the build included."""
    words = PYPROJECT["build-system"]["requires"] + PYPROJECT["project"]["dependencies"]
    words += [word for extra in LOCKS[lock] for word in EXTRAS[extra]]
    return [Requirement(word) for word in words if not word.startswith("s6tls[")]


def test_each_file_is_known() -> None:
    assert {path.stem for path in (ROOT / "requirements").iterdir()} == set(LOCKS)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_all_that_is_asked_for_in_versions_that_are_taken(lock: str) -> None:
    versions = locked(lock)
    for requirement in wanted(lock):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_has_hashes_and_none_has_a_place(lock: str) -> None:
    lines = [line for line in text(lock).splitlines() if re.match(r"[^\s#]", line)]
    assert len(lines) == len(locked(lock)) > 0
    assert "://" not in text(lock)


def test_the_lower_bounds_are_tested() -> None:
    versions = locked("lowest")
    for requirement in wanted("lowest"):
        lowest = [clause.version for clause in requirement.specifier if clause.operator == ">="]
        (version,) = lowest
        assert versions[canonicalize_name(requirement.name)] in Requirement(f"x=={version}").specifier
