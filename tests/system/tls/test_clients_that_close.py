"""Clients of every library, closing in each way that it has: all they said and were told arrives, and the log is clean.

Which acts there are and what the program does is told in `closers.sessions`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import kin, processes, servers
from tests.support.closers import commands, gnutls, python_ssl
from tests.support.closers.sessions import LONG, PROGRAM, WITH_HALF, Results, Run, Session, Way, sessions
from tests.support.closers.talker import talkers
from tests.support.servers import PATIENCE, Server
from tests.support.site import Site

COUNT = 10
"""Of each version: twenty in all."""

TROUBLE = re.compile(r"fatal|warning|\bsignal\b|exitcode [1-9]")

STARTS_TLS = (*PROGRAM[:2], 'printf y >&"$SSLCTLFD"; exec <&"$SSLREADFD" >&"$SSLWRITEFD"; ' + PROGRAM[2])
READ_REQUEST = """read -r get path version; echo "${path#/}" >&2
while IFS= read -r line && [ "$line" != "$(printf '\\r')" ]; do :; done
"""
CLIENT_ENDS_FIRST = (
    READ_REQUEST
    + f"""printf 'HTTP/1.0 200 OK\\r\\nContent-Length: {LONG}\\r\\n\\r\\n'; head -c {LONG} /dev/zero
exec 3>&1; exec cat >&2"""
)
SERVER_ENDS_FIRST = READ_REQUEST + f"printf 'HTTP/1.0 200 OK\\r\\n\\r\\n'; exec head -c {LONG} /dev/zero"

WAYS = {
    "java": (
        Way("close", polite=True),
        Way("shutdownOutput", polite=True, acts=WITH_HALF),
        Way("shutdownInput", polite=True),
        Way("linger", polite=True),
        Way("bare", polite=False, acts=WITH_HALF),
        Way("SSLEngine", polite=True, acts=WITH_HALF),
    ),
    "erlang": (
        Way("close", polite=True),
        Way("shutdown_write", polite=False, acts=WITH_HALF),
        Way("shutdown_both", polite=True),
        Way("exit", polite=True),
    ),
    "node": (
        Way("end", polite=True, acts=WITH_HALF),
        Way("allowHalfOpen", polite=True, acts=WITH_HALF),
        Way("destroySoon", polite=True),
        Way("destroy", polite=False),
        Way("bare", polite=False),
        Way("reset", polite=False),
    ),
    "python": python_ssl.WAYS,
    "gnutls": gnutls.WAYS,
    "openssl": commands.OPENSSL_WAYS,
    "gnutls-cli": commands.GNUTLS_CLI_WAYS,
}


@pytest.fixture(scope="session")
def clients() -> Iterator[Mapping[str, Run]]:
    """What holds sessions, by library."""
    here = {
        "python": python_ssl.run,
        "gnutls": gnutls.run,
        "openssl": commands.openssl,
        "gnutls-cli": commands.gnutls_cli,
    }
    with talkers() as elsewhere:
        yield {**here, **elsewhere}


def each_way(*libraries: str, only: str = "") -> pytest.MarkDecorator:
    """Parametrize a test by libraries and their ways, or by the one way of this name that each has."""
    named = [(library, way) for library in libraries for way in WAYS[library] if way.name == (only or way.name)]
    cases = [pytest.param(library, way, id=f"{library}-{way.name}") for library, way in named]
    return pytest.mark.parametrize(("library", "way"), cases)


@pytest.mark.parametrize("end", ["-s", "-S"])
@each_way(*WAYS)
def test_a_way_to_close(site: Site, clients: Mapping[str, Run], library: str, way: Way, end: str) -> None:
    """With -S a client that says close_notify has to pass -J, too."""
    options = (end, "-J") if way.polite and end == "-S" else (end,)
    with site.serve(*PROGRAM, options=options) as server:
        assert_all_is_well(server, clients[library], way, sessions(way, COUNT))


@pytest.mark.parametrize("end", ["-s", "-S"])
@each_way("java", "erlang", "python", only="close")
def test_the_same_with_a_program_that_starts_tls(
    site: Site, clients: Mapping[str, Run], library: str, way: Way, end: str
) -> None:
    words = ["s6-tcpserver", "-v", "--isolation", site.isolation, "--", "127.0.0.1", "0", "s6-ucspitlsd", end]
    with servers.server([*words, *STARTS_TLS], site.env, cwd=site.place) as server:
        assert_all_is_well(server, clients[library], way, sessions(way, COUNT))


@pytest.mark.parametrize("end", ["-s", "-S"])
@each_way("java", "erlang", "python", only="close")
def test_the_same_in_a_chain_that_is_written_out(
    tmp_path: Path, clients: Mapping[str, Run], library: str, way: Way, end: str
) -> None:
    """What env starts is a process of its own; so is the engine."""
    words = ["s6-tcpserver", "-v", "--", "127.0.0.1", "0", "env", "s6-tlsd", end]
    with servers.server([*words, *PROGRAM], Site(tmp_path, "connection").env) as server:
        assert_all_is_well(server, clients[library], way, sessions(way, len(way.acts)))


@pytest.mark.parametrize("version", [("--tls-max", "1.2"), ("--tlsv1.3",)], ids=["1.2", "1.3"])
@pytest.mark.parametrize(
    ("options", "program"),
    [(("-s",), CLIENT_ENDS_FIRST), (("-S", "-J"), CLIENT_ENDS_FIRST), (("-S",), SERVER_ENDS_FIRST)],
    ids=["client first -s", "client first -SJ", "server first -S"],
)
def test_curl(site: Site, options: tuple[str, ...], program: str, version: tuple[str, ...]) -> None:
    """An answer with a length, and one that only its end bounds."""
    pages = [f"page{number}" for number in range(1, 2 * COUNT + 1)]
    with site.serve("sh", "-c", program, options=options) as server:
        words = ("curl", "-sS", "--http1.0", *version, "--cacert", site.authority.file, "--noproxy", "*")
        url = f"https://localhost:{server.port}/page[1-{len(pages)}]"
        resolve = ("--resolve", f"localhost:{server.port}:127.0.0.1")
        done = subprocess.run([*words, *resolve, url, "-o", f"{site.place}/page#1"], timeout=PATIENCE)
        assert done.returncode == 0
        assert {(site.place / page).stat().st_size for page in pages} == {LONG}
        assert_all_is_over(server, len(pages))
        log = server.log().splitlines()
    assert not set(pages) - set(log)
    assert [line for line in log if TROUBLE.search(line) or "s6-tlsd-io" in line] == []


def assert_all_is_well(server: Server, run: Run, way: Way, held: list[Session]) -> None:
    """Hold the sessions: all answers and lines must arrive, everything must end, and the log must be clean."""
    assert not_told_whole(held, run(server.port, way, held)) == {}
    assert_all_is_over(server, len(held))
    log = server.log().splitlines()
    assert lines_not_heard(held, log) == []
    assert [line for line in log if TROUBLE.search(line)] == []
    if way.polite:
        assert [line for line in log if "s6-tlsd-io" in line] == []


def not_told_whole(held: list[Session], results: Results) -> Results:
    """Return the answers that their clients have not read whole, or not at all."""
    return {session.line: results[session.line] for session in held if results[session.line] != session.size}


def lines_not_heard(held: list[Session], log: list[str]) -> list[str]:
    """Return the lines that did not get to their programs exactly once."""
    heard = Counter(log)
    return [session.line for session in held if heard[session.line] != 1]


def assert_all_is_over(server: Server, count: int) -> None:
    """Every program has seen its end, every slot is free, no engine is left."""
    server.wait_log(r"^s6-tcpserverd: info: end ", count)
    processes.await_that(lambda: "status: 0/40\n" in server.log().rpartition(" end pid ")[2])
    processes.await_that(lambda: len(list(kin.family(server.pid))) <= 2 + max(4, os.cpu_count() or 1))
