"""The document, and the forms that are made of it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from s6tls.ucspi.connection import ACCEPTED, SERVED, Connection
from s6tls.ucspi.image import Image
from s6tls.ucspi.ledger import Client, Ledger, Limits
from s6tls.ucspi.log import Log
from s6tls.ucspi.status import asking, metrics, text
from s6tls.ucspi.status.counts import Counts
from s6tls.ucspi.status.document import About, Document
from s6tls.ucspi.status.files import File, Pool
from tests.support.clock import Clock

ABOUT = About("s6-tlsserver", {"-x": "rules.cdb", "-v": True}, ["cat"], ("127.0.0.1", 443))
STAMP = (1, 2, 300, 10**18, 10**18)
FILES = [File("rules", b"rules.cdb", STAMP)]
OF_A_POOL = [
    File("key", b"key.pem", STAMP),
    File("certificate", b"cert.pem", STAMP, validity=(1_700_000_000, 1_800_000_000)),
    File("certificate", b"a.pem", STAMP, b"a.example", (1_700_000_000, 1_900_000_000)),
]


def connection(number: int, state: str = SERVED, **env: bytes) -> Connection:
    """Return a connection that a program serves."""
    address = f"192.0.2.{number % 256}"
    made = Connection(Client(address, number), Image({b"TCPREMOTEIP": address.encode()}, []))
    made.image.env |= {name.encode(): value for name, value in env.items()}
    made.image.rule, made.state, made.pid = "ip4/0.0.0.0_0", state, 1000 + number
    return made


def document(connections: set[Connection], counts: Counts | None = None) -> Document:
    """Return the document of a server with these connections, which has a pool that is gone by now."""
    ledger = Ledger(Limits(), Log("server", 0), Clock().after)
    ledger.admitted, ledger.over_limit = 7, 3
    pools = [Pool(0, "ready", 5, OF_A_POOL)]
    return Document(ABOUT, ledger, counts or Counts(), connections, lambda: pools, lambda: FILES)


def told(*args: Any) -> dict[str, Any]:
    return asking.parse(b"".join(document(*args).pieces()))


def test_it_is_made_piece_by_piece_and_one_that_is_gone_meanwhile_does_no_harm() -> None:
    connections = {connection(number) for number in range(250)}
    pieces = document(connections).pieces()
    head = next(pieces)
    connections.clear()
    rest = list(pieces)
    assert len(rest) == 4
    found = json.loads(head + b"".join(rest))
    assert found["states"]["served"] == 250
    assert {one["port"] for one in found["connections"]} == set(range(250))


def test_a_connection_has_what_is_known_of_it() -> None:
    served = connection(7, SSL_TLS_SNI_SERVERNAME=b"a.example" + b"\xff" * 1000)
    served.accepted = time.monotonic() - 3600
    (one,) = told({served})["connections"]
    name = one.pop("server_name")
    assert name.startswith(r"a.example\xff") and name.isascii() and len(name) <= 4 * 255
    since = one.pop("since")
    assert abs(time.time() - metrics._seconds(since) - 3600) < 60
    assert one == {"ip": "192.0.2.7", "port": 7, "state": "served", "rule": "ip4/0.0.0.0_0", "pid": 1007}


@pytest.mark.parametrize(
    ("state", "shown"),
    [(ACCEPTED, "accepted"), ("s6-tcpserver-access", "lookup"), ("proxy-server", "header"), ("s6-tlsd", "handshake")],
)
def test_a_connection_without_a_program_has_a_state_and_no_pid(state: str, shown: str) -> None:
    found = told({connection(1, state, TCPREMOTEIP=b"2001:db8::1")})
    (one,) = found["connections"]
    assert one["state"] == shown and "pid" not in one
    assert one["behind_proxy"] == "2001:db8::1"
    assert found["states"][shown] == sum(found["states"].values()) == 1


def test_files_have_their_stamps_and_dates() -> None:
    rules, key, default, named = told(set())["files"]
    assert rules == {
        "kind": "rules",
        "path": "rules.cdb",
        "inode": 2,
        "size": 300,
        "modified": "2001-09-09T01:46:40.000Z",
    }
    assert "not_after" not in key
    assert default["not_before"] == "2023-11-14T22:13:20.000Z"
    assert (named["server_name"], named["not_after"]) == ("a.example", "2030-03-17T17:46:40.000Z")


@pytest.mark.parametrize("data", [b"", b'{"version": 1, "connections": [', b"[]", b"{}", b'{"version": 2}'])
def test_what_is_no_document_of_this_version_is_refused(data: bytes) -> None:
    with pytest.raises(asking.NoStatus):
        asking.parse(data)


def counted() -> Counts:
    counts = Counts()
    for seconds in (0.002, 0.004, 0.004, 100.0):
        counts.latencies["handshake"].add(seconds)
    counts.handshake_failures['odd "reason"\\'] = 3
    counts.failures["s6-tlsd-io", 97] = 3
    counts.received, counts.sent = 12, 34
    return counts


def test_as_metrics_it_has_names_units_and_the_numbers() -> None:
    families = list(text_string_to_metric_families(metrics.exposition(told({connection(1)}, counted())).decode()))
    assert all(family.name.startswith("s6tls_") and family.documentation for family in families)
    samples = {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}
    assert samples["s6tls_connections", "served"] == 1
    assert samples["s6tls_connections_accepted_total",] == 7
    assert samples["s6tls_connections_refused_total", "limit"] == 3
    assert samples["s6tls_handshake_failures_total", 'odd "reason"\\'] == 3
    assert samples["s6tls_failures_total", "97", "s6-tlsd-io"] == 3
    assert samples["s6tls_received_bytes_total",] == 12
    bucket = "s6tls_handshake_duration_seconds_bucket"
    assert [samples[bucket, bound] for bound in ("0.001", "0.0025", "0.005", "30.0", "+Inf")] == [0, 1, 3, 3, 4]
    assert samples["s6tls_handshake_duration_seconds_sum",] == pytest.approx(100.01)
    assert samples["s6tls_certificate_not_after_timestamp_seconds", "a.example", "a.pem", "certificate"] == 1.9e9


def test_as_text_its_numbers_stand_below_each_other() -> None:
    lines = list(text.lines(told({connection(number) for number in range(120)}, counted())))
    assert lines[0] == f"s6-tlsserver 0.2.0, pid {lines[0].split()[3][:-1]}, bound to ip 127.0.0.1 port 443"
    start = lines.index(next(line for line in lines if line.startswith("connections, of 40")))
    numbers = lines[start : lines.index("", start)]
    assert len({len(line) for line in numbers}) == 1
    assert '  failed: odd "reason"\\' in " ".join(numbers)
    (waits,) = [line.split() for line in lines if line.startswith("handshake ")]
    assert waits == ["handshake", "4", "25002.5", "5", "more", "than", "30000"]
    assert lines[-1] == "and 20 more: --json has all"
