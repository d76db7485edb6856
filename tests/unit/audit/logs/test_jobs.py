"""Logs read by several processes come to what one reads."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.audit.logs import jobs, stream
from s6tls.audit.logs.log import Log

LOGS = {
    "common": b'192.0.2.%d - - [25/Nov/2026:01:02:03 +0000] "GET / HTTP/1.1" 200 512\n',
    "json": b'{"ip": "2001:db8::%d"}\n',
    "unfinished": b"192.0.2.%d\n",
}


def written(place: Path) -> list[bytes]:
    """Logs to be cut, packed ones, one whose heading is wanted, a pipe, and an empty one; some lines have no client."""
    for name, line in LOGS.items():
        (place / name).write_bytes(b"".join(line % (number % 97) for number in range(5000)) + b"- -")
    (place / "packed").write_bytes(gzip.compress((place / "common").read_bytes()))
    (place / "table").write_bytes(b"time,client_ip\n" + b"".join(b'1,"192.0.2.%d"\n' % (i % 89) for i in range(5000)))
    (place / "late").write_bytes(b"x" * 99 + b"\n" * 300_000 + b"192.0.2.9\n")
    (place / "empty").touch()
    os.mkfifo(place / "pipe")
    return [os.fsencode(path) for path in sorted(place.iterdir())]


def fill(pipe: Path) -> int:
    """Write a line into a pipe, which nobody needs to read yet."""
    descriptor = os.open(pipe, os.O_RDWR)
    os.write(descriptor, b"192.0.2.200\n")
    return descriptor


def test_processes_come_to_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LARGE", 1000)
    paths = written(tmp_path)
    files = [path for path in paths if not path.endswith(b"/pipe")]
    alone = [Log(path) for path in files]
    expected = {log.path: Counter[bytes]() for log in alone}
    for log in alone:
        for packed, number in log.hits():
            expected[log.path][packed] += number
    keeper = fill(tmp_path / "pipe")
    logs = [Log(path, "plain" if path.endswith(b"/pipe") else None) for path in paths]
    os.close(keeper)
    found = {log.path: Counter[bytes]() for log in logs}
    for which, hits in jobs.read(logs, [partial(Log, path) for path in paths], 3):
        for packed, number in hits:
            found[logs[which].path][packed] += number
    assert found.pop(os.fsencode(tmp_path / "pipe")) == {bytes([192, 0, 2, 200]): 1}
    assert found == expected
    counts = {log.path: (log.format, log.lines, log.unread) for log in logs}
    assert [counts[log.path] for log in alone] == [(log.format, log.lines, log.unread) for log in alone]


def test_what_cannot_be_read_is_told_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"192.0.2.1\n")
    (tmp_path / "bad").write_bytes(gzip.compress(b"192.0.2.1\n" * 100_000)[:-1])
    openers = [partial(Log, os.fsencode(tmp_path / name), "plain") for name in ("good", "bad")]
    with pytest.raises(jobs.Failed, match="gzip data cut short") as failed:
        list(jobs.read([opener() for opener in openers], openers, 2))
    assert failed.value.log == 1


@given(st.lists(st.binary(max_size=9).map(lambda text: text.replace(b"\n", b"")), max_size=30), st.integers(1, 9))
def test_parts_are_the_whole_in_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], parts: int
) -> None:
    path = os.fsencode(tmp_path_factory.getbasetemp() / "lines")
    whole = b"\n".join(lines)
    with open(path, "wb") as file:
        file.write(whole)
    places = stream.cuts(path, len(whole), parts)
    assert (places[0], places[-1]) == (0, len(whole)) and len(places) <= parts + 1
    read = [b"".join(stream.part(path, start, end)) for start, end in pairwise(places)]
    assert b"".join(read).removeprefix(b"\xef\xbb\xbf") == whole.removeprefix(b"\xef\xbb\xbf")
    assert all(part.endswith(b"\n") for part in read[:-1])
