"""s6-accessrules lint, and the compiler's --strict, as processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.accessrules.cdb import write_cdb
from tests.support.commands import answer, run, said
from tests.support.rules import trees
from tests.support.servers import PATH

LINT = ("s6-accessrules", "lint")
COMPILE = "s6-accessrules-cdb-from-fs"
DENY = Rule(False)
GOOD = {b"ip4/0.0.0.0_0": DENY, b"ip6/::_0": DENY, b"ip4/192.0.2.0_24": Rule(True)}
BAD = {**GOOD, b"ip4/10.0.0.0_8": DENY, b"ip4/10.0.0.1_8": Rule(True), b"custom/x": Rule(True)}


@pytest.fixture(params=["tree", "cdb"])
def bad(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = str(tmp_path / "rules")
    trees.write_form(request.param, path, BAD)
    return path


def test_for_people(bad: str) -> None:
    done = run([*LINT, bad])
    assert (done.returncode, done.stderr) == (1, "")
    heading, *rows, blank, counts = done.stdout.splitlines()
    assert heading.split()[:3] == ["severity", "finding", "rule"]
    assert [row.split()[:2] for row in rows if row[:1] != " "] == [
        ["error", "host-bits"],
        ["warning", "unknown-family"],
        ["note", "redundant"],
    ]
    assert (blank, counts) == ("", "1 error, 1 warning, 1 note")


def test_for_machines(bad: str) -> None:
    done = run([*LINT, "--json", bad])
    assert (done.returncode, done.stderr) == (1, "")
    first, *others = answer(done)["findings"]
    assert first == {
        "code": "host-bits",
        "severity": "error",
        "rule": "ip4/10.0.0.1_8",
        "message": "can never match: bits are set beyond the prefix",
        "remedy": "write it as 10.0.0.0_8",
    }
    assert [(other["code"], other["rule"]) for other in others] == [
        ("unknown-family", None),
        ("redundant", "ip4/10.0.0.0_8"),
    ]


@pytest.mark.parametrize(("severity", "count"), [("error", 1), ("warning", 2), ("note", 3)])
def test_severities(bad: str, severity: str, count: int) -> None:
    done = run([*LINT, bad, f"--severity={severity}", "--json"])
    assert (done.returncode, len(answer(done)["findings"])) == (1, count)


def test_nothing_to_report(tmp_path: Path) -> None:
    write_cdb(str(tmp_path / "good"), GOOD.items())
    done = run([*LINT, str(tmp_path / "good")])
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 errors, 0 warnings, 0 notes\n", "")
    assert answer(run([*LINT, "--json", str(tmp_path / "good")])) == {"findings": []}


def test_only_what_is_asked_for_counts(tmp_path: Path) -> None:
    write_cdb(str(tmp_path / "rules"), {**GOOD, b"ip4/10.0.0.0_8": DENY}.items())
    assert run([*LINT, "--severity=warning", str(tmp_path / "rules")]).returncode == 0
    assert run([*LINT, str(tmp_path / "rules")]).returncode == 1


def test_files(tmp_path: Path) -> None:
    rule = Rule(True, ((b"CAFILE", b"/no/such/file"),), b"{")
    write_cdb(str(tmp_path / "rules"), {**GOOD, b"ip4/10.0.0.0_8": rule}.items())
    assert run([*LINT, str(tmp_path / "rules")]).returncode == 0
    done = run([*LINT, "--files", "--days=7", "--json", str(tmp_path / "rules")])
    assert done.returncode == 1
    assert [finding["code"] for finding in answer(done)["findings"]] == ["exec-syntax", "file-missing"]


@pytest.mark.parametrize(
    "words", [["--severity=bad", "x"], ["--days=7", "x"], ["--files", "--days=x", "x"], ["x", "y"], ["--files=x", "x"]]
)
def test_wrong_usage(words: list[str]) -> None:
    code, stderr = said([*LINT, *words])
    assert code == 100
    assert stderr.startswith("s6-accessrules lint: usage: ") and stderr.count("\n") == 1


@pytest.mark.parametrize("contents", [None, b"", b"x" * 5000])
def test_what_cannot_be_read(tmp_path: Path, contents: bytes | None) -> None:
    if contents is not None:
        (tmp_path / "rules").write_bytes(contents)
    code, stderr = said([*LINT, str(tmp_path / "rules")])
    assert code == 111
    assert stderr.startswith(f"s6-accessrules lint: fatal: unable to read {tmp_path}/rules: ")


@pytest.mark.parametrize("form", ["tree", "cdb"])
def test_an_empty_rule_set_is_hardly_what_was_meant(tmp_path: Path, form: str) -> None:
    path = str(tmp_path / "rules")
    trees.write_form(form, path, {})
    done = run([*LINT, "--json", path])
    assert [finding["code"] for finding in answer(done)["findings"]] == ["no-rules"]
    assert done.returncode == 1
    assert run([*LINT, "--severity=error", path]).returncode == 0


def test_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    rules = {**GOOD, b"ip4/\x1b[2J\n\xff": DENY, b"\x1b]0;x\x07/y": DENY}
    write_cdb(str(tmp_path / "rules"), rules.items())
    done = run([*LINT, str(tmp_path / "rules")])
    assert done.returncode == 1
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert [line[:9] for line in done.stdout.splitlines() if line[:1].strip()] == [
        "severity ",
        "error    ",
        "warning  ",
        "1 error, ",
    ]


def test_a_cdb_of_tcprules_is_called_by_its_name(tmp_path: Path) -> None:
    source = b'10.0.0.1:allow,A="b",C="d"\n10.:deny\n=example.org:deny,X="y"\n:allow\n'
    subprocess.run(["tcprules", tmp_path / "cdb", tmp_path / "new"], input=source, check=True, env={"PATH": PATH})
    done = run([*LINT, "--json", str(tmp_path / "cdb")])
    assert [finding["code"] for finding in answer(done)["findings"]] == ["tcprules-cdb"]
    write_cdb(str(tmp_path / "ours"), {**GOOD, b"10.": DENY}.items())
    assert "tcprules-cdb" not in run([*LINT, str(tmp_path / "ours")]).stdout


def test_findings_of_a_kind_are_in_the_order_of_networks(tmp_path: Path) -> None:
    names = ["ip6/::1_8", "ip4/10.0.0.1_8", "ip4/9.0.0.1_8", "ip4/9.0.0.1_7"]
    write_cdb(str(tmp_path / "rules"), [(name.encode(), DENY) for name in names])
    found = answer(run([*LINT, "--severity=error", "--json", str(tmp_path / "rules")]))["findings"]
    assert [item["rule"] for item in found] == names[::-1]


# --strict


def test_strict_refuses_errors_and_nothing_less(tmp_path: Path) -> None:
    tree, cdb = tmp_path / "rules", tmp_path / "cdb"
    trees.write_tree(os.fsencode(tree), {**GOOD, b"ip4/10.0.0.0_8": DENY, b"custom/x": DENY})
    assert said([COMPILE, "--strict", str(cdb), str(tree)]) == (0, "")
    cdb.unlink()
    (tree / "ip4/10.0.0.0_8/allow").touch()
    (tree / "ip4/10.0.0.0_8/exec").write_bytes(b"x" * 5000)
    (tree / "stray").touch()
    code, stderr = said([COMPILE, "--strict", str(cdb), str(tree)])
    first, second, third, last = stderr.splitlines()
    assert code == 100 and not cdb.exists()
    assert first.startswith(f"{COMPILE}: error: unable to open directory stray: ")
    assert second == f"{COMPILE}: error: ip4/10.0.0.0_8: has both allow and deny: it allows (remove one of them)"
    assert third.startswith(f"{COMPILE}: error: ip4/10.0.0.0_8: exec takes 5,000 bytes, and is cut at 4,096 (")
    assert last == f"{COMPILE}: fatal: rule set has 3 problems"


def test_strict_cannot_judge_what_it_cannot_read(tmp_path: Path) -> None:
    code, stderr = said([COMPILE, "--strict", str(tmp_path / "cdb"), str(tmp_path / "none")])
    assert code == 111
    assert stderr.startswith(f"{COMPILE}: fatal: unable to ") and stderr.count("\n") == 1
    (tmp_path / "file").touch()
    code, stderr = said([COMPILE, "--strict", str(tmp_path / "cdb"), str(tmp_path / "file")])
    assert code == 111
    assert stderr.startswith(f"{COMPILE}: fatal: ") and stderr.count("\n") == 1
