"""s6-accessrules diff as a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.accessrules.cdb import write_cdb
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.questions.diff import differences, other_differences
from s6tls.cli.accessrules.common import json_line, portable
from tests.support.commands import answer, run, said
from tests.support.rules import trees

COMMAND = ["s6-accessrules", "diff"]
OLD = {
    b"ip4/192.0.2.0_24": Rule(True, ((b"ROLE", b"staff"),)),
    b"ip4/203.0.113.0_24": Rule(False),
    b"reversedns/example.org": Rule(True),
}
NEW = {
    b"ip4/192.0.2.0_24": Rule(True, ((b"ROLE", b"staff"),)),
    b"ip4/192.0.2.9_32": Rule(True, ((b"ROLE", b"a\x1b[2J"),)),
    b"ip6/2001:db8::_32": Rule(True),
}
NO_ENV: dict[str, object] = {"set": {}, "unset": []}


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    trees.write_tree(os.fsencode(tmp_path / "old"), OLD)
    write_cdb(str(tmp_path / "new.cdb"), NEW.items())
    return [str(tmp_path / "old"), str(tmp_path / "new.cdb")]


def test_for_people(sets: list[str]) -> None:
    done = run([*COMMAND, *sets])
    assert (done.returncode, done.stderr) == (1, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["prefixes", "addresses", "before", "after"]
    assert rows[1:] == [
        ["192.0.2.9/32", "1", "allow", "by", "ip4/192.0.2.0_24", "allow", "by", "ip4/192.0.2.9_32"],
        ["ROLE=staff", "ROLE=a\\x1b[2J"],
        ["203.0.113.0/24", "256", "deny", "by", "ip4/203.0.113.0_24", "undecided"],
        ["2001:db8::/32", f"{2**96:,}", "undecided", "allow", "by", "ip6/2001:db8::_32"],
        ["reversedns/example.org", "-", "allow", "by", "undecided"],
        ["reversedns/example.org"],
        [],
        ["ip4:", "257", "addresses", "decided", "differently"],
        ["ip6:", f"{2**96:,}", "addresses", "decided", "differently"],
        ["other", "families:", "1", "rule"],
    ]


def test_for_machines(sets: list[str]) -> None:
    done = run([*COMMAND, "--json", *sets])
    assert (done.returncode, done.stderr) == (1, "")
    found = answer(done)["differences"]
    old, new = (LoadedRules.of(rules.items()) for rules in (OLD, NEW))
    assert found == portable(
        [d.json() for d in differences(old, new)] + [d.json() for d in other_differences(old, new)]
    )
    assert found[1] == {
        "family": "ip4",
        "prefixes": ["203.0.113.0/24"],
        "addresses": 256,
        "before": {"verdict": "deny", "rule": "ip4/203.0.113.0_24", "env": NO_ENV, "exec": None},
        "after": {"verdict": "notfound", "rule": None, "env": NO_ENV, "exec": None},
    }
    assert done.stdout == json_line({"differences": found}) + "\n"


def test_no_differences(sets: list[str]) -> None:
    done = run([*COMMAND, sets[0], sets[0]])
    assert (done.returncode, done.stdout, done.stderr) == (0, "no differences\n", "")
    done = run([*COMMAND, "--json", sets[1], sets[1]])
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"version": 1, "differences": []}\n', "")


def test_witnesses_and_clients_of_several_logs(sets: list[str], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("203.0.113.9\n192.0.2.1\n203.0.113.9\n203.0.113.255\n2001:db8::1\n")
    done = run([*COMMAND, *sets, "--json", "--witness", "--log", str(log), "--log=-"], given="203.0.113.9\n192.0.2.9\n")
    told = [f"info: {log}: 5 lines read as plain", "info: -: 2 lines read as plain"]
    assert (done.returncode, done.stderr) == (1, "".join(f"s6-accessrules diff: {line}\n" for line in told))
    assert [(d["witness"], d["clients"], d["hits"]) for d in answer(done)["differences"]] == [
        ("192.0.2.9", 1, 1),
        ("203.0.113.0", 2, 4),
        ("2001:db8::", 1, 1),
        (None, None, None),
    ]
    done = run([*COMMAND, *sets, "--witness", "--log", str(log)])
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0][-3:] == ["witness", "clients", "hits"]
    tails = {row[0]: row[-3:] for row in rows if row}
    assert tails["203.0.113.0/24"] == ["203.0.113.0", "2", "3"]
    assert ["-", "-", "-"] in [row[-3:] for row in rows]


def test_numbers_are_aligned_to_the_right(sets: list[str]) -> None:
    done = run([*COMMAND, *sets, "--log=-"], given="203.0.113.9\n")
    lines = done.stdout.splitlines()
    assert "clients  hits" in {line[-13:] for line in lines} and "      1     1" in {line[-13:] for line in lines}


def test_a_field_of_a_log(sets: list[str]) -> None:
    words = [*COMMAND, *sets, "--json", "--log=-", "--format=json", "--field=who"]
    found = answer(run(words, given='{"who": "203.0.113.9"}\n'))["differences"]
    assert [d["clients"] for d in found] == [0, 1, 0, None]


def test_lines_without_an_address_are_told(sets: list[str]) -> None:
    done = run([*COMMAND, *sets, "--json", "--log=-"], given="203.0.113.9\n\x1b[2J\n")
    assert answer(done)["differences"][1]["clients"] == 1
    assert done.stderr.startswith("s6-accessrules diff: warning: -: 1 of 2 lines without an address")
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_many_prefixes_and_rows_are_shortened_for_people_only(tmp_path: Path, json_too: list[str]) -> None:
    old: trees.Rules = {b"ip4/0.0.0.0_0": Rule(False)}
    hosts = [b"ip4/10.%d.%d.0_32" % (i >> 8, i & 255) for i in range(1100)]
    new = {b"ip4/0.0.0.0_0": Rule(True), **dict.fromkeys(hosts, Rule(True, ((b"A", b"1"),)))}
    write_cdb(str(tmp_path / "old"), old.items())
    write_cdb(str(tmp_path / "new"), new.items())
    done = run([*COMMAND, str(tmp_path / "old"), str(tmp_path / "new"), *json_too])
    assert done.returncode == 1
    if json_too:
        found = answer(done)["differences"]
        assert len(found) == 1101
        assert sum(len(d["prefixes"]) for d in found[1:]) == 1100
        assert len(found[0]["prefixes"]) > 3000
        assert sum(d["addresses"] for d in found) == 2**32
    else:
        lines = done.stdout.splitlines()
        assert len(lines) == 1 + 1000 + 1 + 1 + 2
        assert lines[1].startswith("0.0.0.0/5 8.0.0.0/7 10.0.0.1/32 … and ")
        assert lines[1001] == "… and 101 more; --json gives all"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["x"], "NEW is missing"),
        (["x", "x", "x"], "one word too many: x"),
        (["x", "x", "--format=plain"], "--format, --regex, --field and --forwarded are for --log"),
        (["x", "x", "--witness=1"], "option takes no value: --witness"),
    ],
)
def test_wrong_usage(words: list[str], why: str) -> None:
    code, stderr = said([*COMMAND, *words])
    assert code == 100
    assert stderr == f"s6-accessrules diff: usage: {why}; try s6-accessrules diff --help\n"


def test_an_unknown_format(sets: list[str]) -> None:
    code, stderr = said([*COMMAND, *sets, "--log=-", "--format=x"])
    assert code == 100
    assert stderr.startswith("s6-accessrules diff: usage: invalid value for --format: x ")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_cannot_be_read(sets: list[str], tmp_path: Path, place: int) -> None:
    words = [*sets, str(tmp_path / "log")]
    (tmp_path / "log").write_text("")
    words[place] = str(tmp_path / "no\nsuch")
    code, stderr = said([*COMMAND, *words[:2], "--log", words[2]])
    assert code == 111
    assert stderr.startswith(f"s6-accessrules diff: fatal: unable to read {tmp_path}/no\\x0asuch: No such file")
    assert stderr.count("\n") == 1
