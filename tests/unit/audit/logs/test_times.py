"""Lines are left out by the times that they have, and only if these are surely before the moment asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from s6tls.audit.logs import Log, LogError
from s6tls.audit.logs.times import Since

MOMENT = datetime(2026, 11, 2, tzinfo=UTC)
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
TAI = "@" + format((1 << 62) + 10 + int(MOMENT.timestamp()) - 1, "016x") + "00000000"
NOT_YET = "@" + format((1 << 62) + 10 + int(MOMENT.timestamp()), "016x") + "00000000"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"{TAI} 192.0.2.1", f"{NOT_YET} 192.0.2.1"),
        ("2026-11-01T23:59:59Z 192.0.2.1", "2026-11-02T00:00:00Z 192.0.2.1"),
        ("2026-11-01 23:59:59.999+00:00 192.0.2.1", "2026-11-01T23:59:59-00:01 192.0.2.1"),
        ("2026-11-02T00:59:59+0100 192.0.2.1", "2026-11-02T01:00:00+0100 192.0.2.1"),
        ("2026-11-01 11:59:59 192.0.2.1", "2026-11-01 12:00:00 192.0.2.1"),
        ("2026-11-01\t11:59:59\t192.0.2.1", "2026-11-01\t12:00:00\t192.0.2.1"),
        ('192.0.2.1 - - [01/Nov/2026:23:59:59 +0000] "GET /"', '192.0.2.1 - - [02/Nov/2026:00:00:00 +0000] "GET /"'),
        ("192.0.2.1:9 [01/Nov/2026:11:59:59.123] a b/c", "192.0.2.1:9 [01/Nov/2026:12:00:00.123] a b/c"),
        ("Nov  1 11:59:59 host x: 192.0.2.1", "Nov  1 12:00:00 host x: 192.0.2.1"),
        ("Dec 31 11:59:59 host x: 192.0.2.1", "Nov 28 23:00:00 host x: 192.0.2.1"),
        ("Feb 29 11:59:59 host x: 192.0.2.1", "Nov 31 11:59:59 host x: 192.0.2.1"),
        ("Nov  1 2026 11:59:59 host x: 192.0.2.1", "Nov  1 2027 11:59:59 host x: 192.0.2.1"),
        ("1793577599.999 12 192.0.2.1", "1793577600.000 12 192.0.2.1"),
        ('{"ts":1793577599.9,"ip":"192.0.2.1"}', '{"ts":1793577600.0,"ip":"192.0.2.1"}'),
        ('{"__REALTIME_TIMESTAMP":"1793577599999999"}', '{"__REALTIME_TIMESTAMP":"1793577600000000"}'),
        ('{"time": "2026-11-01T23:59:59Z"}', '{"request_time": 0.25, "status": 200}'),
        ("2026-11-01 11:59:59 x 2026-11-28", "2026-99-01 11:59:59 no such day"),
        ("0001-01-01T00:00:00Z x", "9999-12-31T23:59:59-12:00 x"),
    ],
)
def test_what_is_surely_before_a_moment_is_left_out(before: str, after: str) -> None:
    since = Since(MOMENT, NOW)
    dated = "2026-11-20T00:00:00Z dated"
    chunks = [f"{before}\n{after}\n{dated}".encode(), before.encode()]
    assert b"\n".join(since.filtered(chunks)).decode() == f"{after}\n{dated}"
    assert since.left_out == 2


def test_lines_without_a_time_are_kept_and_all_of_them_are_an_error() -> None:
    assert list(Since(MOMENT).filtered([b"#heading\n2026-12-01 00:00:00 x", b""])) == [
        b"#heading\n2026-12-01 00:00:00 x",
        b"",
    ]
    assert list(Since(MOMENT).filtered([])) == []
    with pytest.raises(LogError, match="no time in its lines"):
        list(Since(MOMENT).filtered([b"192.0.2.1\n\n192.0.2.2"]))


def test_a_log_is_read_from_a_moment_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("time,ip\n2026-11-01 01:02:03,192.0.2.1\n2026-11-02 01:02:03,192.0.2.2\n")
    assert list(Log(bytes(path), since=Since(MOMENT)).addresses()) == [bytes([192, 0, 2, 2])]
    path.write_text('[{"ip": "192.0.2.1"}]')
    with pytest.raises(LogError, match="a JSON document"):
        Log(bytes(path), since=Since(MOMENT))
