"""s6-accessrules coverage as a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.accessrules.cdb import write_cdb
from tests.support.commands import answer, run, said
from tests.support.rules import trees

COMMAND = ["s6-accessrules", "coverage"]
RULES = {
    b"ip4/10.0.0.0_8": Rule(True),
    b"ip4/10.0.0.0_9": Rule(False),
    b"ip4/10.128.0.0_9": Rule(True),
    b"ip4/10.128.0.7_9": Rule(True),
    b"ip6/::_0": Rule(False),
    b"reversedns/example.org": Rule(True),
    b"uid/0": Rule(True),
    b"uid/1": Rule(True),
}


@pytest.fixture(params=["tree", "cdb"])
def rules(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = str(tmp_path / "rules")
    trees.write_form(request.param, path, RULES)
    return path


def test_for_people(rules: str) -> None:
    done = run([*COMMAND, rules])
    assert (done.returncode, done.stderr) == (0, "")
    summary = [
        ["addresses", "ip4", "share", "ip6", "share"],
        ["allowed", f"{2**23:,}", "0.20", "%", "0", "0", "%"],
        ["denied", f"{2**23:,}", "0.20", "%", f"{2**128:,}", "100", "%"],
        ["undecided", f"{2**32 - 2**24:,}", "99.61", "%", "0", "0", "%"],
        ["reversedns:", "1", "rule"],
        ["uid:", "2", "rules"],
    ]
    assert [line.split() for line in done.stdout.splitlines()] == [
        *summary,
        [],
        ["rule", "decides", "itself", "share"],
        ["ip4/10.0.0.0_9", f"{2**23:,}", "0.20", "%"],
        ["ip4/10.128.0.0_9", f"{2**23:,}", "0.20", "%"],
        ["ip4/10.0.0.0_8", "0", "0", "%"],
        ["ip4/10.128.0.7_9", "0", "0", "%"],
        [],
        ["rule", "decides", "itself", "share"],
        ["ip6/::_0", f"{2**128:,}", "100", "%"],
        [],
        *summary,
    ]


def test_for_machines(rules: str) -> None:
    done = run([*COMMAND, rules, "--json"])
    assert (done.returncode, done.stderr) == (0, "")
    assert answer(done) == {
        "ip4": {
            "allow": 2**23,
            "deny": 2**23,
            "undecided": 2**32 - 2**24,
            "rules": {"ip4/10.0.0.0_8": 0, "ip4/10.0.0.0_9": 2**23, "ip4/10.128.0.0_9": 2**23, "ip4/10.128.0.7_9": 0},
        },
        "ip6": {"allow": 0, "deny": str(2**128), "undecided": 0, "rules": {"ip6/::_0": str(2**128)}},
    }


def test_many_rules_are_shortened_for_people(tmp_path: Path) -> None:
    path = str(tmp_path / "rules.cdb")
    write_cdb(path, [(b"ip4/10.%d.%d.0_32" % (i >> 8, i & 255), Rule(True)) for i in range(1100)])
    lines = run([*COMMAND, path]).stdout.splitlines()
    assert lines[6].startswith("ip4/10.0.0.0_32 ") and lines[1005].startswith("ip4/10.3.231.0_32 ")
    assert lines[1006] == "… and 100 more; --json gives all"
    few = run([*COMMAND, path, "--top=2"]).stdout.splitlines()
    assert [few[7][:16], few[8]] == ["ip4/10.0.1.0_32 ", "… and 1,098 more; --json gives all"]
    assert len(answer(run([*COMMAND, path, "--json", "--top=2"]))["ip4"]["rules"]) == 1100


def test_two_rule_sets_are_wrong_usage(rules: str) -> None:
    code, stderr = said([*COMMAND, rules, rules])
    why = f"one word too many: {rules}"
    assert (code, stderr) == (100, f"s6-accessrules coverage: usage: {why}; try s6-accessrules coverage --help\n")


def test_what_is_no_rule_set(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("no cdb")
    code, stderr = said([*COMMAND, str(tmp_path / "rules")])
    assert code == 111
    assert stderr.startswith(f"s6-accessrules coverage: fatal: unable to read {tmp_path}/rules: ")
    assert stderr.count("\n") == 1
