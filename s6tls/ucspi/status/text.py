"""A server's status for people: lines of words and numbers, the numbers below each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

Row = Sequence[str | float]
_MOST_CONNECTIONS = 100


def lines(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines about a document."""
    start, now = (datetime.fromisoformat(document[moment]) for moment in ("start", "time"))
    who = f"{document['program']} {document['s6tls']}, pid {document['pid']}"
    yield f"{who}, bound to ip {document['ip']} port {document['port']}"
    yield f"since {document['start']}, for {_span(int((now - start).total_seconds()))}"
    yield ""
    limits, states, totals = document["limits"], document["states"], document["totals"]
    count = sum(states.values())
    yield from table(
        [
            (f"connections, of {limits['connections']}", count),
            *((f"  {state}", number) for state, number in states.items()),
            ("accepted", totals["accepted"]),
            ("started", totals["started"]),
            *((f"denied, by {by}", number) for by, number in totals["denied"].items()),
            *((f"refused, {by.replace('_', ' ')}", number) for by, number in totals["refused"].items()),
            *((f"failed, {row['program']} {row['exitcode']}", row["count"]) for row in totals["failures"]),
            ("handshakes", totals["handshakes"]),
            ("  resumed", totals["resumed"]),
            *((f"  failed: {reason}", number) for reason, number in totals["handshake_failures"].items()),
            ("sessions ended", totals["sessions_ended"]),
            *((f"  broken: {reason}", number) for reason, number in totals["session_failures"].items()),
            ("  bytes in", totals["in"]),
            ("  bytes out", totals["out"]),
        ]
    )
    waits = [(wait, *_latency(found)) for wait, found in document["latencies"].items() if found["count"]]
    yield from _section(("wait", "count", "mean ms", "half within ms", "99% within ms"), waits)
    pools = [(pool["pid"], pool["state"], pool["connections"], pool["engines"]) for pool in document["pools"]]
    yield from _section(("pool", "state", "connections", "engines"), pools)
    files = [
        (file["kind"], file["path"], file.get("server_name", ""), file.get("modified", ""), file.get("not_after", ""))
        for file in document["files"]
    ]
    yield from _section(("file", "path", "server name", "written", "valid until"), files)
    connections = sorted(document["connections"], key=lambda one: str(one["since"]))
    yield from _section(
        ("client", "since", "state", "pid", "rule", "server name"),
        [_connection(one) for one in connections[:_MOST_CONNECTIONS]],
    )
    if len(connections) > _MOST_CONNECTIONS:
        yield f"and {len(connections) - _MOST_CONNECTIONS} more: --json has all"


def _connection(one: dict[str, Any]) -> Row:
    client = f"{one.get('behind_proxy', one['ip'])}_{one['port']}"
    return client, one["since"], one["state"], one.get("pid", ""), one.get("rule", ""), one.get("server_name", "")


def _latency(histogram: dict[str, Any]) -> tuple[str | float, ...]:
    count = histogram["count"]
    return count, f"{1000 * histogram['sum_s'] / count:.1f}", _within(histogram, 0.5), _within(histogram, 0.99)


def _within(histogram: dict[str, Any], share: float) -> str:
    """Return the bound, in milliseconds, that this share of all was within."""
    for bucket in histogram["buckets"]:
        if bucket["count"] >= share * histogram["count"]:
            return f"{1000 * bucket['le']:g}"
    return f"more than {1000 * histogram['buckets'][-1]['le']:g}"


def _span(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def _section(heads: tuple[str, ...], rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield ""
        yield from table([heads, *rows])


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield rows with their columns below each other, numbers to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(len(str(cell)) for cell in column) for column in columns]
    numeric = [all(_is_number(cell) for cell in column[1:]) and _is_number(column[-1]) for column in columns]
    for row in rows:
        cells = [
            str(cell).rjust(width) if right else str(cell).ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _is_number(cell: str | float) -> bool:
    return str(cell).replace(".", "", 1).isdigit()
