"""Logs as people have them, each with the clients that must be found in it, or with none, where none is certain.

`logs.json` has them: documented examples of the formats, and lines that mislead.  `@@20*TEXT` stands for 20 lines TEXT.
Where `clients` is null, reading fails.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from s6tls.accessrules.keys import address_text
from s6tls.audit.logs.formats import FORMATS
from s6tls.audit.logs.log import Log
from s6tls.audit.logs.stream import LogError
from s6tls.cli.accessrules.logs import OPTIONS, open_log
from s6tls.cli.frame.options import Synopsis, UsageError
from tests.support.commands import answer, run, said

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("logs.json").read_text())
PROGRAM = "s6-accessrules"
SYNOPSIS = Synopsis("logs", OPTIONS, "LOG")


def written(path: Path, text: str) -> str:
    whole = re.sub(r"@@(\d+)\*(.*\n)", lambda found: found[2] * int(found[1]), text)
    (path / "log").write_bytes(whole.encode())
    return str(path / "log")


def opened(*words: str) -> Log:
    given = SYNOPSIS.read_mixed([os.fsencode(word) for word in words])
    return open_log(given.words[0], given)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_right_clients_or_none(case: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path, case["text"])
    if case["clients"] is None:
        with pytest.raises(LogError, match=r"no client in its lines|it may be read as|no column"):
            list(opened(path, *case["options"]).addresses())
    else:
        log = opened(path, *case["options"])
        assert [address_text(packed).decode() for packed in log.addresses()] == case["clients"]


def test_each_format_has_a_case_that_is_guessed(tmp_path: Path) -> None:
    found = set()
    for case in CASES:
        if case["clients"] and not any(option.startswith(("--format", "--regex")) for option in case["options"]):
            found.add(opened(written(tmp_path, case["text"]), *case["options"]).format)
    assert found >= {*FORMATS, "s6 in json", "common in json", "json in json"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--regex=("], "invalid value for --regex: missing ), unterminated subpattern at position 0"),
        (["--regex=x"], "invalid value for --regex: it has no group"),
        (["--regex=(?P<client>x)", "--field=x"], "--field is for json, csv, columns, w3c, not for regex"),
        (["--format=columns"], "--format=columns needs --field"),
        (["--forwarded=0"], "invalid value for --forwarded: 0"),
        (["--forwarded=-x"], "invalid value for --forwarded: x"),
    ],
)
def test_wrong_options(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        opened(written(tmp_path, "192.0.2.1\n"), *words)
    assert str(caught.value).startswith(message)


@pytest.fixture
def rules() -> str:
    return str(Path(__file__).parents[3] / "rules/named/tree")


def test_what_a_log_was_taken_for_is_always_said(rules: str, tmp_path: Path) -> None:
    path = written(tmp_path, '{"log": "192.0.2.1 - - [25/Nov/2026:01:02:03 +0000] \\"GET /\\" 200 1"}\n')
    done = run([PROGRAM, "replay", "--json", rules, path])
    assert done.stderr == f"{PROGRAM} replay: info: {path}: 1 line read as common in json\n"
    assert answer(done)["logs"] == [{"path": path, "format": "common in json", "lines": 1, "unread": 0}]
    for words in (["explain", rules, "--log", path], ["diff", rules, rules, "--log", path]):
        assert run([PROGRAM, *words]).stderr == f"{PROGRAM} {words[0]}: info: {path}: 1 line read as common in json\n"


@pytest.mark.parametrize("words", [["replay"], ["explain", "--log"], ["diff", "{rules}", "--log"]])
def test_a_log_that_gives_no_client_is_an_error(rules: str, tmp_path: Path, words: list[str]) -> None:
    path = written(tmp_path, "starting\nstopping\n")
    name, *rest = words
    tried = ", ".join(FORMATS)
    code, stderr = said([PROGRAM, name, rules, *(word.format(rules=rules) for word in rest), path])
    reason = f"no client in its lines, 2 in all (tried {tried})"
    assert (code, stderr) == (111, f"{PROGRAM} {name}: fatal: unable to read {path}: {reason}\n")


def test_an_empty_log_is_none(rules: str, tmp_path: Path) -> None:
    done = run([PROGRAM, "replay", "--json", rules, written(tmp_path, "")])
    assert (done.returncode, done.stderr, answer(done)["logs"][0]["format"]) == (0, "", None)
