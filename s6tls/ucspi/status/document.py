"""The document that tells how a server is: one JSON object, made piece by piece, so that no client waits for it."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s6tls import __version__
from s6tls.accessrules.text import shown
from s6tls.posix.process import children
from s6tls.ucspi.connection import ACCEPTED, CLOSING, SERVED, Connection
from s6tls.ucspi.log import rfc3339
from s6tls.ucspi.status.counts import BOUNDS_S, WAITS, Counts, Histogram

if TYPE_CHECKING:
    from s6tls.ucspi.ledger import Ledger
    from s6tls.ucspi.status.files import File, Pool

VERSION = 1
STATES = (ACCEPTED, *WAITS.values(), SERVED, CLOSING)
_A_PIECE = 100
"""Connections that are told of at once: less than a millisecond."""
_LONGEST_NAME = 255


@dataclass(frozen=True)
class About:
    """What stays as it is: the command, its options and its program, and where it listens."""

    program: str
    options: Mapping[str, str | bool]
    command: Sequence[str]
    listens_on: tuple[str, int]


class Document:
    """Tells of a server, whose `connections` are these; `pools` and `files` tell what else it has."""

    def __init__(
        self,
        about: About,
        ledger: Ledger,
        counts: Counts,
        connections: set[Connection],
        pools: Callable[[], Sequence[Pool]],
        files: Callable[[], Sequence[File]],
    ) -> None:
        self._about, self._ledger, self._counts, self._connections = about, ledger, counts, connections
        self._pools, self._files = pools, files
        self._started = time.time()

    def pieces(self) -> Iterator[bytes]:
        """Yield the document as it is now; connections are told of as they are when it is their turn."""
        connections = list(self._connections)
        yield json.dumps(self._head(connections)).encode()[:-1] + b', "connections": ['
        for start in range(0, len(connections), _A_PIECE):
            offset = time.time() - time.monotonic()
            told = [_connection(one, offset) for one in connections[start : start + _A_PIECE]]
            yield (b", " if start else b"") + json.dumps(told).encode()[1:-1]
        yield b"]}\n"

    def _head(self, connections: Sequence[Connection]) -> dict[str, Any]:
        ip, port = self._about.listens_on
        states = Counter(map(_state, connections))
        pools = self._pools()
        files = [*self._files(), *(file for pool in pools for file in pool.files)]
        return {
            "version": VERSION,
            "s6tls": __version__,
            "program": self._about.program,
            "pid": os.getpid(),
            "start": rfc3339(self._started),
            "time": rfc3339(time.time()),
            "ip": ip,
            "port": port,
            "options": self._about.options,
            "command": self._about.command,
            "limits": self._limits(),
            "states": {state: states.pop(state, 0) for state in STATES} | states,
            "totals": self._totals(),
            "latencies": {wait: _histogram(found) for wait, found in self._counts.latencies.items()},
            "pools": [_pool(pool) for pool in pools],
            "files": list({_key(file): _file(file) for file in files}.values()),
        }

    def _limits(self) -> dict[str, Any]:
        limits = self._ledger.limits
        return {
            "connections": limits.total,
            "connections_of_a_client": limits.per_client,
            "client_prefix": limits.prefix,
            "rate": None if limits.rate is None else str(limits.rate),
            "stall_timeout_s": limits.stall_ms / 1000,
            "drain_s": limits.drain_s,
        }

    def _totals(self) -> dict[str, Any]:
        ledger, counts = self._ledger, self._counts
        return {
            "accepted": ledger.admitted,
            "started": counts.started,
            "denied": {"rule": counts.denied_by_rule, "none": counts.denied_by_none},
            "refused": {
                "limit": ledger.over_limit,
                "rate": ledger.over_rate,
                "limit_of_rule": counts.over_rule_limit,
                "rate_of_rule": counts.over_rule_rate,
            },
            "handshakes": sum(counts.latencies["handshake"].within),
            "resumed": counts.resumed,
            "handshake_failures": dict(counts.handshake_failures),
            "session_failures": dict(counts.session_failures),
            "failures": [
                {"program": program, "exitcode": code, "count": count}
                for (program, code), count in counts.failures.items()
            ],
            "sessions_ended": counts.sessions_ended,
            "in": counts.received,
            "out": counts.sent,
        }


def _histogram(histogram: Histogram) -> dict[str, Any]:
    within, buckets = 0, []
    for bound, count in zip(BOUNDS_S, histogram.within, strict=False):
        within += count
        buckets.append({"le": bound, "count": within})
    return {"count": within + histogram.within[-1], "sum_s": round(histogram.sum_s, 6), "buckets": buckets}


def _pool(pool: Pool) -> dict[str, Any]:
    return {"pid": pool.pid, "state": pool.state, "connections": pool.given, "engines": len(children(pool.pid))}


def _key(file: File) -> tuple[str, bytes, bytes]:
    return file.kind, file.path, file.server_name


def _file(file: File) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": file.kind, "path": shown(file.path)}
    if file.server_name:
        told["server_name"] = shown(file.server_name)
    if file.stamp is not None:
        _, inode, size, modified_ns, _ = file.stamp
        told |= {"inode": inode, "size": size, "modified": rfc3339(modified_ns / 1e9)}
    if file.validity is not None:
        told["not_before"], told["not_after"] = map(rfc3339, file.validity)
    return told


def _state(connection: Connection) -> str:
    return WAITS.get(connection.state, connection.state)


def _connection(connection: Connection, offset: float) -> dict[str, Any]:
    """Tell of a connection; `offset` is from the moments of time.monotonic to those of time.time."""
    env = connection.image.env
    told: dict[str, Any] = {
        "ip": connection.client.address,
        "port": connection.client.port,
        "since": rfc3339(connection.accepted + offset),
        "state": _state(connection),
    }
    if connection.image.rule:
        told["rule"] = connection.image.rule
    if connection.state in (SERVED, CLOSING):
        told["pid"] = connection.pid
        if name := env.get(b"SSL_TLS_SNI_SERVERNAME"):
            told["server_name"] = shown(name[:_LONGEST_NAME])
    client = env.get(b"TCPREMOTEIP", b"")
    if client != connection.client.address.encode():
        told["behind_proxy"] = shown(client)
    return told
