"""s6-accessrules suggest and tighten as processes."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.audit.suggest import cover, forest
from s6tls.cli.accessrules import suggest
from s6tls.cli.frame.options import UsageError
from tests.support.commands import answer, run, said
from tests.support.rules import trees

PROGRAM = "s6-accessrules"
LOG = """\
2026-10-01T00:00:00Z 192.0.2.9
2026-11-20T00:00:00Z 192.0.2.1
2026-11-20T00:00:00Z 192.0.2.2
2026-11-20T00:00:00Z 198.51.100.1
2026-11-20T00:00:00Z 2001:db8::1
"""
EXPECTED = '[[expect]]\nabout = "admins"\nallow = ["192.0.2.{}"]\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rules = {
        b"ip4/192.0.2.0_24": Rule(True, ((b"ROLE", b"staff"),)),
        b"ip4/203.0.113.0_24": Rule(True),
        b"ip6/::_0": Rule(False),
    }
    trees.write_tree(os.fsencode(tmp_path / "rules"), rules)
    (tmp_path / "log").write_text(LOG)
    for name, address in {"holds": 1, "fails": 200}.items():
        (tmp_path / name).write_text(EXPECTED.format(address))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_suggestions_for_machines(place: Path) -> None:
    words = ["--since=2026-11-01", "--budget=2", "--allow-below=rules", "--expect=holds"]
    done = run([PROGRAM, "suggest", "--json", *words, "log"])
    assert done.returncode == 0
    assert "info: log: 1 line before 2026-11-01 left out\n" in done.stderr
    assert answer(done) == {
        "clients": 4,
        "hits": 4,
        "left_out": {"clients": 2, "hits": 2},
        "rules": [
            {
                "key": "ip4/192.0.2.0_30",
                "verdict": "allow",
                "env": {"set": {"ROLE": "staff"}, "unset": []},
                "exec": None,
                "clients": 2,
                "hits": 2,
                "addresses": 4,
                "beyond": 2,
                "known": [],
            }
        ],
        "addresses": {"ip4": 4, "ip6": 0},
        "beyond": {"ip4": 2, "ip6": 0},
        "allowed_no_longer": {"ip4": 508, "ip6": 0},
        "excess": {},
        "logs": [{"path": "log", "format": "plain", "lines": 4, "unread": 0, "left_out": 1}],
    }


def test_tightened_rules_can_be_built_and_hold_what_is_expected(place: Path) -> None:
    done = run([PROGRAM, "tighten", "rules", "log", "--since=2026-11-01", "--expect=holds"])
    assert done.returncode == 0
    assert done.stdout.startswith("# 3 rules before, 2 after, for 4 clients, 4 hits, in log since 2026-11-01\n")
    (place / "tight").write_text(done.stdout)
    assert said([PROGRAM, "build", "tight", "tight.cdb"]) == (0, "")
    assert run([PROGRAM, "expect", "tight.cdb", "holds"]).returncode == 0
    assert run([PROGRAM, "replay", "rules", "log", "--against=tight.cdb", "--json"]).returncode == 1
    found = answer(run([PROGRAM, "tighten", "rules", "log", "--max-rules=3", "--json"]))
    assert [rule["key"] for rule in found["rules"]] == [
        "ip4/192.0.2.1_32",
        "ip4/192.0.2.2_32",
        "ip4/192.0.2.9_32",
        "ip6/::_0",
    ]
    assert (found["unused"], found["allowed_no_longer"]) == (["ip4/203.0.113.0_24"], {"ip4": 509, "ip6": 0})


FAILS = "error: fails: expectation 1 (admins) fails: allow in 192.0.2.200/32"


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["suggest", "log", "--expect=fails"], 1, FAILS),
        (["tighten", "rules", "log", "--expect=fails"], 1, FAILS),
        (["tighten", "rules", "log", "--expect=log"], 100, "unable to use log"),
        (["suggest", "log", "--max-rules=1", "--allow-below=rules", "--known=rules"], 111, "unable to read rules"),
        (["suggest", "log", "--known=holds"], 100, "holds:1: "),
        (["tighten", "rules", "log", "--since=2027-01-01"], 111, "nobody is in the logs"),
        (["tighten", "rules", "holds"], 111, "unable to read holds: no client in its lines"),
    ],
)
def test_what_goes_wrong_is_said(place: Path, words: list[str], code: int, problem: str) -> None:
    done = run([PROGRAM, *words])
    assert (done.returncode, done.stdout) == (code, "")
    assert problem in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "word", ["--max-rules=0", "--budget=x", "--budget=", "--since=yesterday", "--since=0001-01-01"]
)
def test_wrong_usage(word: str) -> None:
    name, _, value = word.partition("=")
    with pytest.raises(UsageError, match=f"invalid value for {name}: {value}"):
        suggest.body([b"log", word.encode()])


def test_too_few_rules(place: Path) -> None:
    trees.write_tree(b"split", {b"ip4/192.0.2.1_32": Rule(True), b"ip4/192.0.2.9_32": Rule(True)})
    code, stderr = said([PROGRAM, "suggest", "log", "--max-rules=1", "--allow-below=split"])
    assert code == 100
    assert stderr.endswith("fatal: unable to keep to --max-rules: IPv4 takes 2 rules at least\n")


def test_what_is_not_the_best_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(forest, "cheapest", partial(cover.cheapest, work=0))
    monkeypatch.setattr(forest, "fewest", partial(cover.fewest, work=0))
    (place / "many").write_text("".join(f"10.0.0.{n * n % 251}\n" for n in range(40)))
    found = []
    for option in ("--max-rules=6", "--budget=15"):
        assert suggest.body([b"many", option.encode()]) == 0
        found.append(re.findall(rb"^# not the best .*$", capfdbinary.readouterr().out, re.MULTILINE))
    said = "# not the best there is, for the clients are too many: up to {} too many"
    assert [line.decode() for lines in found for line in lines] == [
        said.format("60 IPv4 addresses"),
        said.format("1 rule"),
    ]


def test_nobody_is_allowed(place: Path) -> None:
    trees.write_tree(b"none", {b"ip4/10.0.0.0_8": Rule(True)})
    done = run([PROGRAM, "suggest", "log", "--allow-below=none"])
    assert done.returncode == 0
    assert "warning: nobody is allowed" in done.stderr
    assert done.stdout.splitlines() == [
        "# 0 rules for 5 clients, 5 hits, in log",
        "# addresses let in beyond these clients: none",
        "# left out, as they were not allowed: 5 clients, 5 hits",
        "# addresses allowed no longer: 16,777,216 IPv4",
        "# proved: all other clients are decided as before, and nobody gets in whom the rules given do not allow",
    ]
