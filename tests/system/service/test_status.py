"""--status of a real server, asked by the real command, while clients are served."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import peers, processes, servers
from tests.support.commands import run, said
from tests.support.servers import BIN, PATIENCE, Server, tcpserver
from tests.support.site import ALLOW, DENY, Site, allow

CLIENTS = 50
RULES = {"ip4/127.0.0.1_32": ALLOW, "ip4/127.0.0.2_32": DENY, "ip4/127.0.0.3_32": allow(TCPCONNMAX="0")}


@pytest.fixture
def worker_site(tmp_path: Path) -> Site:
    return Site(tmp_path, "worker")


def document(path: Path) -> dict[str, Any]:
    done = run(["s6-tlsserver-status", "--json", str(path)])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def scraped(exporter: Server) -> dict[tuple[str, ...], float]:
    """Each sample of an exporter by its name and the values of its labels."""
    answer = exporter.exchange(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").decode()
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    families = text_string_to_metric_families(answer.partition("\r\n\r\n")[2])
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_the_exporter_has_the_numbers_right_while_fifty_clients_are_served(worker_site: Site) -> None:
    path, ca = worker_site.place / "status", worker_site.authority.file
    options = ("-c", "100", "-C", "60", f"--status={path}", "-x", worker_site.compile(RULES))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(worker_site.serve("cat", options=options))
        exporter = stack.enter_context(
            tcpserver("--", "s6-tlsserver-status", "--http", str(path), env={"PATH": servers.PATH})
        )
        by = peers.context(ca)
        clients = [stack.enter_context(peers.dial(server, by)) for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(b"x" * 100)
            assert client.recv(100)
        assert peers.refused(server, by, source="127.0.0.2") and peers.refused(server, by, source="127.0.0.3")
        with peers.connect(server) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            servers.read_all(plain)
        waiting = stack.enter_context(peers.connect(server))
        assert peers.refused(server, peers.context(worker_site.pair.certificate))
        server.wait_log("certificate unknown|unknown ca|alert|bad certificate")
        peers.send_eof(clients[0])
        assert peers.read_all(clients[0]) == b""
        server.wait_log(r"session .* in 100 out 100 ")
        server.wait_log(r"end pid \d+ exitcode 0")

        found = scraped(exporter)
        assert found["s6tls_connections", "served"] == CLIENTS - 1
        assert found["s6tls_connections", "handshake"] == 1
        assert found["s6tls_connections_accepted_total",] == CLIENTS + 5
        assert found["s6tls_programs_started_total",] == CLIENTS
        assert found["s6tls_connections_denied_total", "rule"] == 1
        assert found["s6tls_connections_refused_total", "limit_of_rule"] == 1
        assert found["s6tls_failures_total", "97", "s6-tlsd-io"] == 2
        assert found["s6tls_handshake_failures_total", "http request"] == 1
        assert found["s6tls_handshake_duration_seconds_count",] == CLIENTS
        assert found["s6tls_handshake_duration_seconds_bucket", "+Inf"] == CLIENTS
        assert (found["s6tls_received_bytes_total",], found["s6tls_sent_bytes_total",]) == (100, 100)
        assert found["s6tls_pools", "ready"] == 1
        assert found["s6tls_engines",] >= 2
        certificate = ("certificate", worker_site.pair.certificate, "")
        ends = found["s6tls_certificate_not_after_timestamp_seconds", *sorted(certificate)]
        assert ends > time.time() > found["s6tls_certificate_not_before_timestamp_seconds", *sorted(certificate)]

        whole = document(path)
        assert len(whole["connections"]) == CLIENTS
        ports = {client.getsockname()[1] for client in (*clients[1:], waiting)}
        assert {one["port"] for one in whole["connections"]} == ports
        served = [one for one in whole["connections"] if one["state"] == "served"]
        assert {(one["rule"], one["server_name"]) for one in served} == {("ip4/127.0.0.1_32", "localhost")}
        assert {one["pid"] for one in served} <= set(server.children())
        assert (whole["pid"], whole["port"]) == (server.pid, server.port)
        assert (whole["options"]["-c"], whole["command"]) == ("100", ["cat"])
        assert {file["kind"] for file in whole["files"]} == {"rules", "key", "certificate"}


def test_sessions_that_resume_are_counted(worker_site: Site) -> None:
    path, by = worker_site.place / "status", peers.context(worker_site.authority.file, ssl.TLSVersion.TLSv1_2)
    with worker_site.serve("cat", options=(f"--status={path}",)) as server:
        with peers.dial(server, by) as first:
            ticket = first.session
        with peers.dial(server, by, session=ticket) as second:
            assert second.session_reused
            totals = document(path)["totals"]
        assert (totals["handshakes"], totals["resumed"]) == (2, 1)


def test_the_socket_is_the_users_goes_with_the_server_and_is_no_other_servers(tmp_path: Path) -> None:
    path = tmp_path / "status"
    with tcpserver("-v", f"--status={path}", "--drain=20000", "--", "cat") as server, server.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert document(path)["states"]["served"] == 1
        code, line = said(["s6-tcpserver", f"--status={path}", "127.0.0.1", "0", "cat"])
        assert code == 100
        assert line == (
            f"s6-tcpserverd: fatal: unable to make the status socket {path}: another server listens there\n"
        )
        server.signal(signal.SIGTERM)
        server.wait_log("received SIGTERM")
        assert document(path)["states"]["served"] == 1
        client.close()
        assert server.wait() == 0
    assert os.listdir(tmp_path) == []


def test_a_client_whose_program_is_gone_is_closing_and_a_connection_over_the_limit_is_refused(
    worker_site: Site,
) -> None:
    path, by = worker_site.place / "status", peers.context(worker_site.authority.file)
    with worker_site.serve("true", options=("-C", "1", f"--status={path}")) as server, peers.dial(server, by):
        server.wait_log(r"accept ")
        processes.await_that(lambda: document(path)["states"]["closing"] == 1)
        assert peers.refused(server, by)
        totals = document(path)["totals"]
        assert totals["refused"] == {"limit": 1, "rate": 0, "limit_of_rule": 0, "rate_of_rule": 0}


def test_people_can_watch(tmp_path: Path) -> None:
    path = tmp_path / "status"
    with tcpserver(f"--status={path}", "--", "cat"):
        command = [os.path.join(BIN, "s6-tlsserver-status"), "--watch", str(path)]
        watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert watching.stdout is not None
        lines = iter(watching.stdout.readline, "")
        assert next(lines).startswith("s6-tcpserver 0.2.0, pid ")
        while not next(lines).startswith("s6-tcpserver "):
            pass
    assert watching.wait(PATIENCE) == 111
    assert watching.stderr is not None and "unable to get the status" in watching.stderr.read()
    watching.stdout.close()
    watching.stderr.close()


def test_an_exporter_whose_server_is_gone_says_so(tmp_path: Path) -> None:
    with tcpserver("--", "s6-tlsserver-status", "--http", str(tmp_path / "status")) as exporter:
        answer = exporter.exchange(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"No such file or directory\n")
