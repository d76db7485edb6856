"""Which commands have the names of Debian's s6, as the page on installing and the package's builder have it."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def shadowed() -> set[str]:
    files = subprocess.run(["dpkg", "-L", "s6"], capture_output=True, text=True, check=True).stdout.split()
    return {Path(file).name for file in files if "/bin/" in file} & SCRIPTS.keys()


def test_the_page_on_installing_names_them() -> None:
    page = (ROOT / "docs/install.md").read_text()
    first = page.partition("\n## What has the same names\n\n")[2].partition("\n\n")[0]
    assert set(re.findall("`(s6-[a-z-]+)`", first)) == shadowed()


def test_the_package_leaves_them_out_of_usr_bin() -> None:
    tree = ast.parse((ROOT / "tools/build-deb").read_text())
    (value,) = (
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OF_S6"
    )
    names = {node.value for node in ast.walk(value) if isinstance(node, ast.Constant)}
    assert names == shadowed()
