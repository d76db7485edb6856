"""s6-accessrules report as a process: a page is written, whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from tests.support.commands import answer, run, said
from tests.support.rules import trees

COMMAND = ["s6-accessrules", "report"]


@pytest.fixture
def tree(tmp_path: Path) -> str:
    trees.write_tree(os.fsencode(tmp_path / "tree"), {b"ip4/0.0.0.0_0": Rule(False), b"ip6/::_0": Rule(True)})
    return str(tmp_path / "tree")


def test_a_page_is_written(tree: str, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    out.write_text("old")
    done = run([*COMMAND, tree, str(out)])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{out}: 2 rules, 0 findings\n"
    assert out.read_text().startswith("<!DOCTYPE html>\n")
    assert sorted(os.listdir(tmp_path)) == ["page.html", "tree"]


def test_findings_are_counted_and_no_failure(tree: str, tmp_path: Path) -> None:
    trees.write_tree(os.fsencode(tree), {b"ip4/10.0.0.1_8": Rule(True)})
    done = run([*COMMAND, "--json", tree, str(tmp_path / "page")])
    assert (done.returncode, done.stderr) == (0, "")
    assert answer(done) == {"out": str(tmp_path / "page"), "rules": 3, "findings": 1}


def test_changes_and_hits(tree: str, tmp_path: Path) -> None:
    trees.write_tree(os.fsencode(tmp_path / "old"), {b"ip4/0.0.0.0_0": Rule(True), b"ip6/::_0": Rule(True)})
    (tmp_path / "log").write_text("192.0.2.1\n")
    words = [tree, str(tmp_path / "page"), f"--against={tmp_path}/old", f"--log={tmp_path}/log", "--color-by=rule"]
    done = run([*COMMAND, *words])
    assert done.stderr == f"s6-accessrules report: info: {tmp_path}/log: 1 line read as plain\n"
    assert done.stdout == f"{tmp_path}/page: 2 rules, 0 findings, 1 difference\n"
    (tmp_path / "log").chmod(0o600)
    (tmp_path / "page").unlink()
    assert answer(run([*COMMAND, "--json", *words]))["differences"] == 1
    assert stat.S_IMODE((tmp_path / "page").stat().st_mode) == 0o600
    for more, message in (
        ([f"--log={tmp_path}/page"], "cannot take the place of what it is made of"),
        ([f"--log={tmp_path}/none"], f"unable to read {tmp_path}/none: No such file"),
    ):
        assert message in run([*COMMAND, *words, *more]).stderr
    code, stderr = said([*COMMAND, tree, str(tmp_path / "page"), "--format=s6"])
    assert code == 100 and "--format, --regex, --field and --forwarded are for --log" in stderr


def test_a_page_that_cannot_be_written(tree: str, tmp_path: Path) -> None:
    code, stderr = said([*COMMAND, tree, str(tmp_path / "no\nsuch" / "page")])
    assert code == 111
    assert stderr.startswith(f"s6-accessrules report: fatal: unable to write {tmp_path}/no\\x0asuch/page: ")
    (tmp_path / "directory").mkdir()
    code, _ = said([*COMMAND, tree, str(tmp_path / "directory")])
    assert code == 111
    assert sorted(os.listdir(tmp_path)) == ["directory", "tree"]


def test_rules_that_cannot_be_read_leave_the_old_page(tree: str, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("old")
    (Path(tree) / "stray").write_text("")
    code, stderr = said([*COMMAND, tree, str(tmp_path / "page")])
    assert code == 111 and stderr.count("\n") == 1
    assert (tmp_path / "page").read_text() == "old"


@pytest.mark.parametrize(
    ("rules", "old", "expected"), [(0o755, None, 0o640), (0o700, None, 0o600), (0o755, 0o604, 0o604)]
)
def test_a_page_is_no_more_readable_than_the_rules_or_the_old_page(
    tree: str, tmp_path: Path, rules: int, old: int | None, expected: int
) -> None:
    page = tmp_path / "page"
    if old is not None:
        page.write_text("old")
        page.chmod(old)
    os.chmod(tree, rules)
    before = os.umask(0o027)
    try:
        assert run([*COMMAND, tree, str(page)]).returncode == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(page.stat().st_mode) == expected


def test_the_page_does_not_take_the_place_of_the_rules(tmp_path: Path) -> None:
    rules = tmp_path / "rules.cdb"
    rules.write_bytes(b"x")
    code, stderr = said([*COMMAND, str(rules), f"{tmp_path}/./rules.cdb"])
    assert code == 100 and "cannot take the place of what it is made of" in stderr
    assert rules.read_bytes() == b"x"
