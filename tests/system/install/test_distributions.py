"""The sdist has all that a wheel is made of, and the wheel has the manual: made from docs/ there and then."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOT_OURS = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def built(what: str, source: Path, to: Path) -> Path:
    """Build an sdist or a wheel as pip does, from a source tree; return its path."""
    words = [sys.executable, "-c", BUILD, f"build_{what}", str(to)]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return to / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an sdist has."""
    place = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, place / "clone", ignore=NOT_OURS, symlinks=True)
    shutil.copy(ROOT / ".editorconfig", place / "clone")
    archive = built("sdist", place / "clone", place)
    subprocess.run(["tar", "--extract", "--file", str(archive), "--directory", str(place)], check=True)
    return place / archive.name.removesuffix(".tar.gz")


def files(place: Path) -> set[str]:
    return {
        str(path.relative_to(place)) for path in place.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    }


@pytest.mark.parametrize("folder", ["docs", "examples", "fuzz", "requirements", "rules", "tests", "tools"])
def test_the_sdist_has_the_whole_of_each_folder(folder: str, unpacked: Path) -> None:
    assert files(unpacked / folder) == files(ROOT / folder)


def test_the_wheel_of_an_sdist_has_the_package_and_the_manual(unpacked: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(built("wheel", unpacked, tmp_path)) as wheel:
        names = set(wheel.namelist())
        for tool, directory in (("man-pages", "share/man"), ("completions", "share")):
            subprocess.run([sys.executable, str(ROOT / "tools" / tool), str(tmp_path / directory)], check=True)
        made = {path: (tmp_path / path).read_bytes() for path in files(tmp_path) if path.startswith("share/")}
        assert len(made) > 50
        shipped = {name.partition(".data/data/")[2]: name for name in names if ".data/data/" in name}
        assert {path: wheel.read(name) for path, name in shipped.items()} == made
    assert {name for name in names if name.startswith("s6tls/")} == {f"s6tls/{name}" for name in files(ROOT / "s6tls")}
