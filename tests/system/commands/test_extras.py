"""What needs no more than `pip install s6tls`, and what says that it needs an extra: audit, metrics or sql.

Commands run with the packages of these extras out of reach.
"""

from __future__ import annotations

import gzip
import os
import pty
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import zstandard

from s6tls.cli import s6_accessrules
from tests.support.servers import PATH, PATIENCE

PYPROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
OPTIONAL = PYPROJECT["optional-dependencies"]
EXTRA = {requirement.partition(">=")[0] for requirement in OPTIONAL["audit"] + OPTIONAL["metrics"] + OPTIONAL["sql"]}
MODULES = [
    name
    for name, owners in packages_distributions().items()
    if EXTRA & {owner.replace("_", "-") for owner in owners} and name.isidentifier()
]
LINES = b"192.0.2.7\n198.51.100.1\n"

Run = Callable[..., subprocess.CompletedProcess[str]]


WITHOUT = f"""
import sys
from s6tls.cli import start
sys.modules.update(dict.fromkeys({MODULES!r}))
del sys.argv[0]
getattr(start, sys.argv[0].replace("-", "_"))()
"""


@pytest.fixture
def run() -> Run:
    def run(*words: object, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT, *map(str, words)],
            env={"PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )

    return run


@pytest.fixture
def rules(run: Run, tmp_path: Path) -> Path:
    (tmp_path / "tree/ip4/192.0.2.0_24").mkdir(parents=True)
    (tmp_path / "tree/ip4/192.0.2.0_24/allow").touch()
    done = run("s6-accessrules-cdb-from-fs", "--strict", tmp_path / "rules.cdb", tmp_path / "tree")
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "rules.cdb"


def lacking(package: str, subcommand: str, extra: str = "audit") -> str:
    return f"s6-accessrules {subcommand}: fatal: unable to go on: {package} is missing: install s6tls[{extra}]\n"


def test_the_extra_has_what_is_kept_away() -> None:
    assert {"PIL", "rich", "zstandard", "prometheus_client", "duckdb", "pyarrow"} <= set(MODULES)


@pytest.mark.parametrize(
    "words",
    [[name] for name in PYPROJECT["scripts"]] + [["s6-accessrules", name] for name, _ in s6_accessrules.COMMANDS],
)
def test_every_command_starts_without_the_extra(run: Run, words: Sequence[str]) -> None:
    done = run(*words, "--help")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["coverage"], ["explain", "192.0.2.7"], ["lint"], ["diff"]])
def test_plain_answers_need_no_extra(run: Run, rules: Path, words: Sequence[str]) -> None:
    subcommand, *rest = words
    done = run("s6-accessrules", subcommand, rules, *([rules] if subcommand == "diff" else rest))
    assert (done.returncode, done.stderr) in ((0, ""), (1, ""))


def test_of_logs_only_those_in_zstd_need_it(run: Run, rules: Path, tmp_path: Path) -> None:
    for name, contents in (("plain", LINES), ("gzip", gzip.compress(LINES))):
        (tmp_path / name).write_bytes(contents)
        assert run("s6-accessrules", "replay", rules, tmp_path / name).returncode == 0
    (tmp_path / "zstd").write_bytes(zstandard.ZstdCompressor().compress(LINES))
    done = run("s6-accessrules", "replay", rules, tmp_path / "zstd")
    assert (done.returncode, done.stdout, done.stderr) == (111, "", lacking("zstandard", "replay"))


def test_of_pictures_only_png_needs_it(run: Run, rules: Path, tmp_path: Path) -> None:
    assert run("s6-accessrules", "map", rules, tmp_path / "map.svg").returncode == 0
    assert run("s6-accessrules", "report", rules, tmp_path / "report.html").returncode == 0
    done = run("s6-accessrules", "map", rules, tmp_path / "map.png")
    assert (done.returncode, done.stderr) == (111, lacking("pillow", "map"))
    assert not (tmp_path / "map.png").exists()


def test_of_tables_only_those_on_a_terminal_need_it(run: Run, rules: Path) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours), os.fdopen(theirs):
        done = run("s6-accessrules", "coverage", rules, stdout=theirs)
    assert (done.returncode, done.stderr) == (111, lacking("rich", "coverage"))


def test_of_a_servers_status_only_metrics_need_it(run: Run) -> None:
    done = run("s6-tlsserver-status", "--prometheus", "/nosuch")
    missing = "prometheus-client is missing: install s6tls[metrics]"
    assert (done.returncode, done.stderr) == (111, f"s6-tlsserver-status: fatal: unable to go on: {missing}\n")
    assert run("s6-tlsserver-status", "/nosuch").stderr.endswith("No such file or directory\n")


def test_of_tables_of_intervals_only_csv_needs_none(run: Run, rules: Path) -> None:
    assert run("s6-accessrules", "export", "csv", rules).stdout.startswith("family,first,last,verdict,rule\n")
    done = run("s6-accessrules", "export", "arrow", rules)
    assert (done.returncode, done.stderr) == (111, lacking("pyarrow", "export", "sql"))
    done = run("s6-accessrules", "replay", "--sql", rules, "*.csv")
    assert (done.returncode, done.stderr) == (111, lacking("duckdb", "replay", "sql"))
