"""A server's status as Prometheus has it: metrics called s6tls_*, in seconds and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_Rows = Iterable[tuple[tuple[str, ...], float]]


def exposition(document: dict[str, Any]) -> bytes:
    """Return the metrics of a document in the text exposition format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Status(document))
    return generate_latest(registry)


class _Status(Collector):
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from _server(self._document)
        yield from _connections(self._document)
        yield from _tls(self._document)
        yield from _files(self._document["files"])


def _server(document: dict[str, Any]) -> Iterator[Metric]:
    about = (document["s6tls"], document["program"], document["ip"], str(document["port"]))
    yield _gauge("info", "The server.", ("version", "program", "ip", "port"), [(about, 1)])
    yield _gauge("start_time_seconds", "When the server started, since 1970.", (), [((), _seconds(document["start"]))])
    limits = document["limits"]
    kinds = [(("all",), limits["connections"]), (("client",), limits["connections_of_a_client"])]
    yield _gauge(
        "connections_limit", "How many connections there may be, in all (-c) and of a client (-C).", ("of",), kinds
    )


def _connections(document: dict[str, Any]) -> Iterator[Metric]:
    totals = document["totals"]
    yield _gauge("connections", "Connections that hold a slot, by state.", ("state",), _by_name(document["states"]))
    yield _counter("connections_accepted", "Connections that had a slot.", (), [((), totals["accepted"])])
    yield _counter("programs_started", "Programs started.", (), [((), totals["started"])])
    yield _counter(
        "connections_denied",
        "Connections denied by a rule, or since none let them in.",
        ("by",),
        _by_name(totals["denied"]),
    )
    yield _counter("connections_refused", "Connections over a limit or a rate.", ("by",), _by_name(totals["refused"]))
    failures = [((row["program"], str(row["exitcode"])), row["count"]) for row in totals["failures"]]
    yield _counter("failures", "Connections that something failed for.", ("program", "exitcode"), failures)
    for wait, help in (("lookup", "Look-ups of clients' names."), ("header", "Waits for PROXY headers.")):
        yield _histogram(f"{wait}_duration_seconds", help, document["latencies"][wait])


def _tls(document: dict[str, Any]) -> Iterator[Metric]:
    totals, pools = document["totals"], document["pools"]
    yield _histogram("handshake_duration_seconds", "Handshakes that succeeded.", document["latencies"]["handshake"])
    yield _counter("handshakes_resumed", "Handshakes that resumed a session.", (), [((), totals["resumed"])])
    yield _counter(
        "handshake_failures", "Handshakes that failed, by reason.", ("reason",), _by_name(totals["handshake_failures"])
    )
    yield _counter(
        "session_failures", "Sessions that broke, by reason.", ("reason",), _by_name(totals["session_failures"])
    )
    yield _counter("sessions_ended", "Sessions that have ended.", (), [((), totals["sessions_ended"])])
    yield _counter("received_bytes", "Clear text from clients, of sessions that have ended.", (), [((), totals["in"])])
    yield _counter("sent_bytes", "Clear text to clients, of sessions that have ended.", (), [((), totals["out"])])
    states = dict.fromkeys(("starting", "ready", "failed", "dead"), 0)
    for pool in pools:
        states[pool["state"]] = states.get(pool["state"], 0) + 1
    yield _gauge("pools", "Pools of TLS engines, by state.", ("state",), _by_name(states))
    yield _gauge("engines", "TLS engines.", (), [((), sum(pool["engines"] for pool in pools))])


def _files(files: list[dict[str, Any]]) -> Iterator[Metric]:
    labels = ("kind", "path", "server_name")

    def rows(told: str) -> _Rows:
        return [
            (tuple(file.get(label, "") for label in labels), _seconds(file[told])) for file in files if told in file
        ]

    yield _gauge("file_modified_timestamp_seconds", "When a file was written that is in use.", labels, rows("modified"))
    for end in ("not_before", "not_after"):
        name = f"certificate_{end}_timestamp_seconds"
        yield _gauge(name, "From when to when a certificate in use is valid.", labels, rows(end))


def _by_name(values: Mapping[str, float]) -> _Rows:
    return [((name,), value) for name, value in values.items()]


def _gauge(name: str, help: str, labels: tuple[str, ...], rows: _Rows) -> Metric:
    return _filled(GaugeMetricFamily(f"s6tls_{name}", help, labels=labels), rows)


def _counter(name: str, help: str, labels: tuple[str, ...], rows: _Rows) -> Metric:
    return _filled(CounterMetricFamily(f"s6tls_{name}", help, labels=labels), rows)


def _filled(family: Any, rows: _Rows) -> Metric:
    add: Callable[[tuple[str, ...], float], None] = family.add_metric
    for labels, value in rows:
        add(labels, value)
    found: Metric = family
    return found


def _histogram(name: str, help: str, histogram: dict[str, Any]) -> Metric:
    buckets = [(str(bucket["le"]), bucket["count"]) for bucket in histogram["buckets"]]
    family = HistogramMetricFamily(f"s6tls_{name}", help)
    family.add_metric((), [*buckets, ("+Inf", histogram["count"])], histogram["sum_s"])
    return family


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
