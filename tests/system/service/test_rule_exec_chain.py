"""A rule's exec may be a chain of this project's own programs."""

from __future__ import annotations

from tests.support import peers
from tests.support.site import Site, allow


def test_a_rule_may_bring_tls_back(site: Site) -> None:
    """What an exec runs is a command line like any other: here one with another program behind TLS."""
    rules = {"ip4/127.0.0.1_32": allow(exec="s6-tlsd echo another")}
    with site.serve("echo", "ordinary", options=("-x", site.compile(rules))) as server:
        assert peers.answer(server, peers.context(site.authority.file)) == b"another\n"
