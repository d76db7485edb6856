"""s6-accessrules expect and s6-accessrules-cdb-from-fs --expect as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from s6tls.accessrules import Rule, RuleSet, Verdict
from tests.support.commands import answer, run, said
from tests.support.rules import trees
from tests.support.servers import PATIENCE

EXPECT = ["s6-accessrules", "expect"]
COMPILE = "s6-accessrules-cdb-from-fs"
ROOT = Path(__file__).parents[3]
RULES = {
    b"ip4/192.0.2.0_24": Rule(True, ((b"ROLE", b"staff"),)),
    b"ip4/192.0.2.64_26": Rule(False),
    b"ip4/10.0.0.0_8": Rule(True, ((b"ROLE", b"evil\x1b[31m"),), b"echo\nhello"),
}
HOLDS = """
[[expect]]
allow = ["192.0.2.0/26"]
env = { ROLE = "staff" }

[[expect]]
about = "the lobby"
deny = ["192.0.2.64/26"]
"""
LOCKS_OUT = """
[[expect]]
about = "the office"
allow = ["192.0.2.0/25"]
env = { ROLE = "staff" }
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    trees.write_tree(os.fsencode(tmp_path / "rules"), RULES)
    (tmp_path / "holds").write_text(HOLDS)
    (tmp_path / "locks-out").write_text(LOCKS_OUT)
    return tmp_path


def test_all_hold(place: Path) -> None:
    done = run([*EXPECT, str(place / "rules"), str(place / "holds")])
    assert (done.returncode, done.stdout, done.stderr) == (0, "all 2 expectations hold\n", "")
    done = run([*EXPECT, str(place / "rules"), "--json", str(place / "holds")])
    assert (done.returncode, answer(done)) == (0, {"held": 2, "failed": []})


def test_a_cdb_is_judged_too(place: Path) -> None:
    assert said([COMPILE, str(place / "cdb"), str(place / "rules")]) == (0, "")
    assert run([*EXPECT, str(place / "cdb"), str(place / "holds")]).returncode == 0
    assert run([*EXPECT, str(place / "cdb"), str(place / "locks-out")]).returncode == 1


def test_a_failure_for_people(place: Path) -> None:
    done = run([*EXPECT, str(place / "rules"), str(place / "locks-out")])
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "expectation 1 (the office) fails: allow ROLE=staff in 192.0.2.0/25",
        "  192.0.2.64 gets: deny by ip4/192.0.2.64_26",
        "  64 addresses: 192.0.2.64/26",
        "1 of 1 expectation fails",
    ]


def test_a_failure_for_machines(place: Path) -> None:
    done = run([*EXPECT, "--json", str(place / "rules"), str(place / "locks-out")])
    assert (done.returncode, done.stderr) == (1, "")
    assert answer(done) == {
        "held": 0,
        "failed": [
            {
                "expectation": 1,
                "about": "the office",
                "prefix": "192.0.2.0/25",
                "wanted": "allow",
                "counterexample": "192.0.2.64",
                "addresses": 64,
                "prefixes": ["192.0.2.64/26"],
                "got": {
                    "verdict": "deny",
                    "rule": "ip4/192.0.2.64_26",
                    "env": {"set": {}, "unset": []},
                    "exec": None,
                },
            }
        ],
    }


def test_what_is_quoted_stays_on_its_line(place: Path) -> None:
    (place / "hostile").write_text('[[expect]]\nabout = "one\\u001b[0m\\ntwo"\ndeny = ["10.0.0.0/8"]\n')
    done = run([*EXPECT, str(place / "rules"), str(place / "hostile")])
    assert done.stdout.splitlines() == [
        "expectation 1 (one\\x1b[0m\\ntwo) fails: deny in 10.0.0.0/8",
        "  10.0.0.0 gets: allow by ip4/10.0.0.0_8 ROLE=evil\\x1b[31m exec: echo hello",
        "  16,777,216 addresses: 10.0.0.0/8",
        "1 of 1 expectation fails",
    ]


def test_a_bad_file_is_wrong_usage(place: Path) -> None:
    bad = place / "ba\nd"
    bad.write_text("[[expect]]\nalow = []\n")
    problem = f"fatal: unable to use {place}/ba\\x0ad: expectation 1: unknown key: alow\n"
    assert said([*EXPECT, str(place / "rules"), str(bad)]) == (100, f"s6-accessrules expect: {problem}")
    assert said([COMPILE, "--expect", str(bad), str(place / "cdb"), str(place / "rules")]) == (
        100,
        f"{COMPILE}: {problem}",
    )
    assert not (place / "cdb").exists()


def test_a_file_without_end_is_not_read_to_its_end(place: Path) -> None:
    problem = "fatal: unable to use /dev/zero: larger than 8 MiB\n"
    assert said([*EXPECT, str(place / "rules"), "/dev/zero"]) == (100, f"s6-accessrules expect: {problem}")


@pytest.mark.parametrize("words", [["rules"], ["rules", "holds", "more"]])
def test_wrong_numbers_of_words(words: list[str]) -> None:
    code, stderr = said([*EXPECT, *words])
    assert (code, stderr.count("\n")) == (100, 1)


def test_files_that_cannot_be_read(place: Path) -> None:
    missing, holds, rules = str(place / "missing"), str(place / "holds"), str(place / "rules")
    for words in ([rules, missing], [missing, holds], [rules, rules], [holds, holds]):
        code, stderr = said([*EXPECT, *words])
        assert (code, stderr.count("\n")) == (111, 1)
        assert stderr.startswith("s6-accessrules expect: fatal: unable to read ")
    code, stderr = said([COMPILE, "--expect", missing, str(place / "cdb"), rules])
    assert (code, stderr) == (111, f"{COMPILE}: fatal: unable to read {missing}: No such file or directory\n")
    assert sorted(os.listdir(place)) == ["holds", "locks-out", "rules"]


def test_what_meets_expectations_is_compiled(place: Path) -> None:
    words = [COMPILE, "--expect", str(place / "holds"), "-m", "000", str(place / "cdb"), str(place / "rules")]
    assert said(words) == (0, "")
    assert (place / "cdb").stat().st_mode & 0o7777 == 0
    os.chmod(place / "cdb", 0o600)
    with RuleSet.open(str(place / "cdb")) as rules:
        assert rules.check_address("192.0.2.1").verdict is Verdict.ALLOW


def test_nobody_is_locked_out(place: Path) -> None:
    cdb = place / "cdb"
    assert said([COMPILE, str(cdb), str(place / "rules")]) == (0, "")
    before, inode = cdb.read_bytes(), cdb.stat().st_ino
    trees.write_tree(os.fsencode(place / "rules"), {b"ip4/192.0.2.0_25": Rule(False)})
    files = [f"--expect={place / name}" for name in ("locks-out", "holds")]
    code, stderr = said([COMPILE, *files, str(cdb), str(place / "rules")])
    assert (code, stderr.splitlines()) == (
        1,
        [
            f"{COMPILE}: error: {place}/locks-out: expectation 1 (the office) fails: allow ROLE=staff in 192.0.2.0/25; "
            "192.0.2.0 gets: deny by ip4/192.0.2.0_25; 128 addresses: 192.0.2.0/25",
            f"{COMPILE}: error: {place}/holds: expectation 1 fails: allow ROLE=staff in 192.0.2.0/26; "
            "192.0.2.0 gets: deny by ip4/192.0.2.0_25; 64 addresses: 192.0.2.0/26",
            f"{COMPILE}: fatal: 2 of 3 expectations fail: the cdb file is left as it was",
        ],
    )
    assert (cdb.read_bytes(), cdb.stat().st_ino) == (before, inode)
    assert sorted(os.listdir(place)) == ["cdb", "holds", "locks-out", "rules"]


def test_a_first_cdb_is_not_made_either(place: Path) -> None:
    code, _ = said([COMPILE, f"--expect={place / 'locks-out'}", str(place / "cdb"), str(place / "rules")])
    assert code == 1
    assert sorted(os.listdir(place)) == ["holds", "locks-out", "rules"]


# The program, asked to stop while it judges.
INTERRUPTED = """
import os, signal
from s6tls.audit.policy import expect
from s6tls.cli.s6_accessrules_cdb_from_fs import main
judge = expect.violations_of
def violations_of(*args, **named):
    os.kill(os.getpid(), signal.SIGTERM)
    return judge(*args, **named)
expect.violations_of = violations_of
main()
"""


def test_a_signal_while_judging_leaves_nothing_behind(place: Path) -> None:
    words = ["--expect", str(place / "holds"), str(place / "cdb"), str(place / "rules")]
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, *words], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert sorted(os.listdir(place)) == ["holds", "locks-out", "rules"]
