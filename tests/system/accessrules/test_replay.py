"""s6-accessrules replay and explain --log as processes."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import subprocess
from pathlib import Path

import pytest
import zstandard

from s6tls.accessrules import Rule
from tests.support.commands import answer, run, said
from tests.support.rules import trees
from tests.support.servers import BIN, PATH, PATIENCE

PROGRAM = "s6-accessrules"
LOG = """\
192.0.2.1 - - [25/Nov/2026:01:02:03 +0000] "GET / HTTP/1.1" 200 512
198.51.100.1 - - [25/Nov/2026:01:02:04 +0000] "GET / HTTP/1.1" 200 512
192.0.2.1 - - [25/Nov/2026:01:02:05 +0000] "GET / HTTP/1.1" 200 512
\x1b[31m - - [25/Nov/2026:01:02:06 +0000] "-" 408 -
"""
WARNING = 'warning: {}: 1 of 4 lines without an address, such as "\\x1b[31m" (read as common)\n'


@pytest.fixture
def rules(tmp_path: Path) -> str:
    trees.write_tree(
        os.fsencode(tmp_path / "rules"),
        {
            b"ip4/192.0.2.0_24": Rule(True, ((b"ROLE", b"\x1b[31mstaff"),)),
            b"ip4/192.0.2.9_32": Rule(False),
            b"reversedns/example.org": Rule(True),
        },
    )
    return str(tmp_path / "rules")


@pytest.fixture
def new(tmp_path: Path) -> str:
    trees.write_tree(os.fsencode(tmp_path / "new"), {b"ip4/0.0.0.0_0": Rule(True, ((b"ROLE", b"\x1b[31mstaff"),))})
    return str(tmp_path / "new")


@pytest.fixture
def log(tmp_path: Path) -> str:
    (tmp_path / "log").write_text(LOG)
    return str(tmp_path / "log")


def test_replay_for_people(rules: str, new: str, log: str) -> None:
    done = run([PROGRAM, "replay", rules, log, f"--against={new}"])
    assert done.returncode == 1
    assert done.stderr == f"{PROGRAM} replay: {WARNING.format(log)}"
    assert (
        done.stdout
        == """\
lines: 4, 1 without an address
clients: 2
hits: 2 allowed, 0 denied, 1 undecided
flipped: 1 hit

hits  rule              decision
   2  ip4/192.0.2.0_24  allow ROLE=\\x1b[31mstaff

unused rule       decision
ip4/192.0.2.9_32  deny

hits  undecided client
   1  198.51.100.1

hits  client        before     after
   1  198.51.100.1  undecided  allow ROLE=\\x1b[31mstaff

lines: 4, 1 without an address
clients: 2
hits: 2 allowed, 0 denied, 1 undecided
flipped: 1 hit
"""
    )


def test_replay_for_machines(rules: str, new: str, log: str) -> None:
    done = run([PROGRAM, "replay", "--json", rules, log, "--against", new])
    assert done.returncode == 1
    found = answer(done)
    assert found.pop("flips") == [
        {
            "address": "198.51.100.1",
            "hits": 1,
            "before": {"verdict": "notfound", "rule": None, "env": {"set": {}, "unset": []}, "exec": None},
            "after": {
                "verdict": "allow",
                "rule": "ip4/0.0.0.0_0",
                "env": {"set": {"ROLE": "\x1b[31mstaff"}, "unset": []},
                "exec": None,
            },
        }
    ]
    assert found == {
        "logs": [{"path": log, "format": "common", "lines": 4, "unread": 1}],
        "lines": 4,
        "unread": 1,
        "clients": 2,
        "beyond": 0,
        "allow": 2,
        "deny": 0,
        "undecided": 1,
        "rules": {"ip4/192.0.2.0_24": 2},
        "unused": ["ip4/192.0.2.9_32"],
        "undecided_clients": {"198.51.100.1": 1},
        "flipped": 1,
    }


def test_nothing_flips_against_the_same_rules(rules: str, log: str) -> None:
    done = run([PROGRAM, "replay", "--json", rules, log, f"--against={rules}"])
    assert (done.returncode, answer(done)["flips"]) == (0, [])


def test_undecided_clients_and_unused_rules_are_no_failure(rules: str, log: str) -> None:
    done = run([PROGRAM, "replay", "--json", rules, log])
    assert done.returncode == 0
    found = answer(done)
    assert found["undecided_clients"] and found["unused"] and "flips" not in found


@pytest.mark.parametrize("jobs", ["--jobs=1", "--jobs=2", "--jobs=0"])
def test_several_logs_packed_and_on_stdin(rules: str, tmp_path: Path, jobs: str) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"192.0.2.1\n"))
    (tmp_path / "b").write_bytes(zstandard.ZstdCompressor().compress(b'{"ip": "192.0.2.9"}\n'))
    done = run([PROGRAM, "replay", "--json", jobs, rules, str(tmp_path / "a"), "-", str(tmp_path / "b")], given="::1\n")
    found = answer(done)
    assert (found["lines"], found["allow"], found["deny"], found["undecided"]) == (3, 1, 1, 1)


def test_format_and_field(rules: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"peer": {"é": "192.0.2.1"}, "ip": "192.0.2.9"}\n')
    done = run([PROGRAM, "replay", "--json", rules, str(tmp_path / "log"), "--format=json", "--field=peer.é"])
    assert answer(done)["allow"] == 1
    code, stderr = run_failing([PROGRAM, "replay", rules, str(tmp_path / "log"), "--format", "csv", "--field=\n"])
    assert (code, stderr) == (111, f"{PROGRAM} replay: fatal: unable to read {tmp_path}/log: no column '\\n'\n")


def run_failing(words: list[str]) -> tuple[int, str]:
    code, stderr = said(words)
    assert stderr.count("\n") == 1
    return code, stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["replay", "{rules}"], ""),
        (
            ["replay", "{rules}", "{log}", "--format=x\n"],
            "invalid value for --format: x\\x0a (expected plain, s6, tcpserver, common, vhost_combined, haproxy, ",
        ),
        (
            ["replay", "{rules}", "{log}", "--format=s6", "--field=1"],
            "--field is for json, csv, columns, w3c, not for s6; ",
        ),
        (["explain", "{rules}", "192.0.2.1", "--log={log}"], ""),
        (["explain", "{rules}", "--log={log}", "--name=x"], "--name is for one ADDRESS; "),
        (
            ["explain", "{rules}", "192.0.2.1", "--format=s6"],
            "--format, --regex, --field and --forwarded are for --log; ",
        ),
        (["explain", "{rules}", "--log={log}", "--format=x"], "invalid value for --format: x (expected"),
    ],
)
def test_wrong_usage(rules: str, log: str, words: list[str], message: str) -> None:
    code, stderr = run_failing([PROGRAM, *(word.format(rules=rules, log=log) for word in words)])
    assert code == 100
    assert stderr.startswith(f"{PROGRAM} {words[0]}: usage: {message}")


@pytest.mark.parametrize(
    "words",
    [["replay", "{rules}", "{log}"], ["replay", "--jobs=2", "{rules}", "{log}"], ["explain", "{rules}", "--log={log}"]],
)
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "No such file or directory"),
        (gzip.compress(b"192.0.2.1\n")[:-1], "gzip data cut short at byte 29"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 96, "broken zstd data before byte 100: zstd decompressor error: "),
    ],
    ids=["missing", "cut short", "broken"],
)
def test_a_log_that_cannot_be_read(
    rules: str, tmp_path: Path, words: list[str], data: bytes | None, reason: str
) -> None:
    path = tmp_path / "no\x1bsuch"
    if data is not None:
        path.write_bytes(data)
    done = run([PROGRAM, *(word.format(rules=rules, log=path) for word in words)])
    assert done.returncode == 111
    assert done.stderr.startswith(f"{PROGRAM} {words[0]}: fatal: unable to read {tmp_path}/no\\x1bsuch: {reason}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [["replay", "{rules}", "-"], ["replay", "{good}", "-", "--against={rules}"], ["explain", "{rules}", "--log=-"]],
)
def test_rules_that_cannot_be_read(rules: str, new: str, words: list[str]) -> None:
    deny = Path(rules, "ip4/192.0.2.9_32/deny")
    deny.unlink()
    deny.symlink_to(deny)
    done = run([PROGRAM, *(word.format(rules=rules, good=new) for word in words)], given="192.0.2.9\n")
    assert done.returncode == 111
    assert done.stderr.startswith(f"{PROGRAM} {words[0]}: fatal: unable to read {rules}: ")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_explain_each_client_of_a_log(rules: str, log: str) -> None:
    done = run([PROGRAM, "explain", rules, "--log", log])
    assert done.returncode == 0
    assert done.stderr == f"{PROGRAM} explain: {WARNING.format(log)}"
    assert done.stdout.splitlines() == [
        "192.0.2.1: allow by ip4/192.0.2.0_24 ROLE=\\x1b[31mstaff",
        "198.51.100.1: undecided (a host name is needed)",
        "192.0.2.1: allow by ip4/192.0.2.0_24 ROLE=\\x1b[31mstaff",
    ]


def test_explain_each_client_on_stdin_for_machines(rules: str) -> None:
    done = run([PROGRAM, "explain", "--json", rules, "--log=-"], given="192.0.2.9\n::1\n")
    assert (done.returncode, done.stderr) == (0, f"{PROGRAM} explain: info: -: 2 lines read as plain\n")
    one, other = map(json.loads, done.stdout.splitlines())
    assert done.stdout == run([PROGRAM, "explain", "--json", rules, "192.0.2.9", "::1"]).stdout
    assert (one["version"], one["address"], one["verdict"]) == (1, "192.0.2.9", "deny")
    assert (other["address"], other["verdict"], other["needs_name"]) == ("::1", "notfound", True)


@pytest.mark.parametrize("kind", ["a long line", "a gzip bomb", "a zstd bomb", "clients without end"])
def test_memory_is_bounded(rules: str, tmp_path: Path, kind: str) -> None:
    log = tmp_path / "log"
    if kind == "a long line":
        log.touch()
        os.truncate(log, 500_000_000)
    elif kind == "a gzip bomb":
        log.write_bytes(gzip.compress(bytes(10_000_000)) * 50)
    elif kind == "a zstd bomb":
        log.write_bytes(zstandard.ZstdCompressor().compress(bytes(100_000_000)) * 10)
    else:
        log.write_bytes(b"".join(b"junk%d\n" % number for number in range(600_000)))
    done = subprocess.run(
        [os.path.join(BIN, PROGRAM), "replay", "--json", rules, str(log)],
        env={"PATH": PATH},
        capture_output=True,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000)),
    )
    assert done.returncode == 111
    assert re.search(rb"no client in its lines, [0-9,]+ in all", done.stderr)
