"""What -1 promises to a service manager."""

from __future__ import annotations

from tests.support import kin, peers, processes
from tests.support.site import Site


def test_stdout_is_closed_once_the_port_is_told(site: Site) -> None:
    """By every process of the server: a reader that waits for the end of file gets it."""
    by = peers.context(site.authority.file)
    with site.serve("cat") as server, peers.dial(server, by) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        program = int(server.wait_log(r"accept \S+ pid (\d+)")[1])
        stdouts = {pid: processes.descriptors(pid)[1] for pid in kin.family(server.pid) if pid != program}
    assert set(stdouts.values()) == {"/dev/null"}
