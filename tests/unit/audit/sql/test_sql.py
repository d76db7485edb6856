"""Logs read by DuckDB come to what our own readers make of them."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from s6tls.accessrules import Rule
from s6tls.accessrules.keys import address_text
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.intervals import Lookup, interval_table
from s6tls.audit.logs import LogError
from s6tls.audit.logs.log import Log
from s6tls.audit.logs.replay import Replay
from s6tls.audit.sql import SqlLog
from s6tls.audit.sql.log import _connection

LINES = 30_000


def clients() -> list[str]:
    """What stands in the place of an address, in each line of a log."""
    rng = random.Random(13)
    some = [f"10.{rng.randrange(256)}.{rng.randrange(4)}.1" for _ in range(500)]
    some += [f"2001:db8:{rng.randrange(99):x}::1" for _ in range(500)] + ["-", "::ffff:10.0.0.1", "192.0.2.1:80"]
    return rng.choices(some, k=LINES)


def rules() -> LoadedRules:
    nested = [(b"ip4/10.%d.0.0_%d" % (number, 16), Rule(number % 2 == 0)) for number in range(0, 256, 3)]
    return LoadedRules.of([*nested, (b"ip4/10.0.0.0_8", Rule(True)), (b"ip6/2001:db8::_44", Rule(False))])


def test_all_agree_about_the_same_lines(tmp_path: Path) -> None:
    texts, contents = clients(), rules()
    (tmp_path / "log").write_text("".join(f"{text} x\n" for text in texts))
    half = LINES // 2
    for name, some in {"one": texts[:half], "other": texts[half:]}.items():
        (tmp_path / f"{name}.csv").write_text("n,client_ip\n" + "".join(f'1,"{text}"\n' for text in some))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"client": {"ip": text}}) + "\n" for text in some))
        parquet.write_table(pa.table({"client_ip": some, "n": range(half)}), tmp_path / f"{name}.parquet")
    ours = Replay(contents)
    ours.read(Log(os.fsencode(tmp_path / "log")))
    ours.finish()
    for pattern, format in {"*.csv": None, "*.jsonl": None, "*.parquet": None, "log": "plain"}.items():
        log = SqlLog(os.fsencode(tmp_path / pattern), format)
        theirs = Replay(contents)
        theirs.count(log.hits())
        theirs.close(log)
        theirs.finish()
        assert theirs.json() == ours.json(), pattern
        assert log.sample == b"-"
    verdicts, keys = Lookup(interval_table(contents)).decide(pa.array(texts))
    assert Counter(verdicts.drop_null().to_pylist()) == ours.verdicts
    assert Counter(key.encode() for key in keys.drop_null().to_pylist()) == ours.rules


CASES: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "a path into objects": ("a.json", '{"a": {"b": "192.0.2.1"}}\n{"a": {"c": 1}}\n', {"field": "a.b"}, ["192.0.2.1"]),
    "a list": ("a.json", '{"client": ["192.0.2.1", "::1"]}\n', {"forwarded": -1}, ["::1"]),
    "the first that is there": ("a.json", '{"ip": "::1"}\n{"remote_addr": "::2", "ip": "::1"}\n', {}, ["::1", "::2"]),
    "an array of records": ("a.json", '[{"ip": "::1"},\n {"ip": "::2"}]', {}, ["::1", "::2"]),
    "a heading in any letters": ("a.tsv", 'x\tä "y"\n1\t::1\n', {"field": 'ä "y"'}, ["::1"]),
    "any bytes in a line": ("a", '::1 \xff"\0\\\n::2 #\n', {"format": "plain"}, ["::1", "::2"]),
    "an expression": ("a", "x from ::1 y\n", {"expression": rb"(x) from (?P<client>\S+)"}, ["::1"]),
}


@pytest.mark.parametrize("name", CASES)
def test_clients(tmp_path: Path, name: str) -> None:
    file, contents, options, expected = CASES[name]
    (tmp_path / file).write_text(contents, "utf-8" if "ä" in contents else "latin-1")
    log = SqlLog(os.fsencode(tmp_path / file), **options)
    assert sorted(address_text(packed).decode() for packed, _ in log.hits()) == expected


@pytest.mark.parametrize(
    ("file", "contents", "options", "message"),
    [
        ("a", "::1\n", {}, "the format has to be named"),
        ("a.csv", "x,y\n::1,2\n", {}, "no known column"),
        ("a.csv", "x,y\n::1,2\n", {"field": "z"}, "no column of texts 'z'"),
        ("a.json", '{"ip": {"v": 4}}\n', {"field": "ip"}, "no column of texts 'ip'"),
        ("a.json", '{"ip": {"v": "::1"}}\n', {"field": "ip.w"}, "no column of texts 'ip.w'"),
        ("a.csv", "ip,y\nx,2\n", {}, "no client in its lines, 1 in all, read as csv"),
        ("a.json", '{"ip": "::1"}\n{"ip"\n', {}, "Malformed JSON"),
        ("a", "::1\n::2\r::3\n", {"format": "plain"}, "invalid state"),
        ("a.parquet", "PAR1", {}, "a.parquet"),
    ],
)
def test_what_cannot_be_read_says_why(
    tmp_path: Path, file: str, contents: str, options: dict[str, Any], message: str
) -> None:
    (tmp_path / file).write_bytes(contents.encode())
    with pytest.raises(LogError, match=message):
        list(SqlLog(os.fsencode(tmp_path / file), **options).hits())


@pytest.mark.parametrize("expression", [b"(", b"(x)"])
def test_what_is_no_expression(expression: bytes) -> None:
    with pytest.raises(ValueError):
        SqlLog(b"a", expression=expression)
    with pytest.raises(LogError, match="UTF-8"):
        SqlLog(b"\xff.csv")


def test_nothing_is_fetched_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(LogError, match="httpfs"):
        list(SqlLog(b"https://192.0.2.1/a.parquet").hits())
    with _connection(1) as connection:
        assert connection.execute("SELECT current_setting('threads')").fetchone() == (1,)
    assert list(tmp_path.iterdir()) == []
