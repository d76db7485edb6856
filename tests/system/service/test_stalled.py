"""Clients that take nothing, or do not close their end, hold no slot; clients that have nothing to do keep theirs."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

from tests.support import peers
from tests.support.servers import Server, tcpserver
from tests.support.site import ENDED, Site

FREE = r"^s6-tcpserverd: info: status: 0/40$"


@contextlib.contextmanager
def flooding(server: Server, by: ssl.SSLContext) -> Iterator[None]:
    """Be a client that asks for a lot, and reads none of it."""
    with peers.dial(server, by) as client:
        client.sendall(b"flood\n")
        yield


SCRIPT = 'read what; case "$what" in (flood) exec cat /dev/zero;; esac; echo "$what"; read what; echo "$what"'


def test_a_client_that_takes_nothing_is_cut_off_and_one_that_idles_is_not(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("sh", "-c", SCRIPT, options=("-S", "--stall-timeout=500")) as server:
        with peers.dial(server, by) as idle:
            idle.sendall(b"hello\n")
            assert idle.recv(6) == b"hello\n"
            for _ in range(3):
                with flooding(server, by):
                    server.wait_log(r"unable to go on with .*: unable to .* the network: Connection timed out$")
            server.wait_log(r"session .* broken$", 3)
            idle.sendall(b"bye\n")
            assert peers.read_all(idle) == b"bye\n"
        server.wait_log(FREE, 2)


def test_a_client_that_never_closes_is_let_go(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("echo", "hi", options=("-S", "--stall-timeout=300")) as server, peers.dial(server, by) as client:
        assert peers.read_all(client) == b"hi\n"
        server.wait_log(rf"{ENDED} 0 ")
        server.wait_log(FREE, 2)


def test_a_client_in_clear_that_takes_nothing_is_cut_off() -> None:
    with (
        tcpserver("-v", "--stall-timeout=500", "--", "cat", "/dev/zero") as server,
        server.connect(),
    ):
        server.wait_log(r"end pid \d+ exitcode \d+ count 0/40$")
        server.wait_log(FREE, 2)


def test_without_a_limit_it_stays(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("sh", "-c", SCRIPT, options=("--stall-timeout=0",)) as server, flooding(server, by):
        with site.serve("sh", "-c", SCRIPT, options=("--stall-timeout=500",)) as other, flooding(other, by):
            other.wait_log(r"session .* broken$")
        assert "session" not in server.log()
