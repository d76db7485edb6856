"""A key changes while many clients wait: whoever was accepted before is served under what was true then."""

from __future__ import annotations

import os
import signal

from tests.support import peers, processes
from tests.support.site import Site


def test_clients_in_the_queue_are_served_when_the_key_changes(site: Site) -> None:
    """The host of the old key is stopped for a moment, so that ten clients wait for it when a new one takes over."""
    by = peers.context(site.authority.file)
    by.check_hostname = False
    with (
        site.serve("cat", options=("-c", "100", "-C", "100")) as server,
        peers.crowd(10) as crowd,
        peers.dial(server, by) as first,
    ):
        first.sendall(b"!")
        assert first.recv(1) == b"!"
        host = int(processes.status(processes.engine(server, first))["PPid"])
        os.kill(host, signal.SIGSTOP)
        asked = [crowd.submit(peers.answer, server, by, b"%d" % number) for number in range(10)]
        processes.await_that(lambda: _accepted(server.port) + sum(future.done() for future in asked) >= 11)
        site.pair.install(site.authority.issue("newer.example"))
        with peers.dial(server, by) as client:
            assert peers.serial(client) == "newer.example"
        os.kill(host, signal.SIGCONT)
        assert [future.result() for future in asked] == [b"%d" % number for number in range(10)]


def _accepted(port: int) -> int:
    """Return how many of a port's connections a process has accepted: those that wait in the queue have no inode."""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file.read().splitlines()[1:]]
    return sum(row[3] == "01" and row[1].endswith(f":{port:04X}") and row[9] != "0" for row in rows)
