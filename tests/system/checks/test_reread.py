"""SIGUSR1: all files in use are read and judged now, the log says how they are, and no client notices."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support import peers
from tests.support.site import ALLOW, Site, allow, of, replace

OURS, OTHERS = "ip4/127.0.0.1_32", "ip4/127.0.0.2_32"


def test_the_log_says_how_files_are_now(site: Site) -> None:
    other = site.authority.issue("other.example")
    rules = {OURS: ALLOW, OTHERS: allow(**of(other))}
    by = peers.context(site.authority.file)
    by.check_hostname = False
    cdb = site.compile(rules)
    with site.serve("cat", options=("-x", cdb)) as server, peers.dial(server, by) as running:
        assert peers.answer(server, by, b"in", source="127.0.0.2") == b"in"

        def ask(count: int) -> None:
            server.signal(signal.SIGUSR1)
            server.wait_log("^s6-tcpserverd: info: received SIGUSR1, reading all files anew$", count)

        ask(1)
        server.wait_log(rf"^s6-tcpserver-access: info: rules in {cdb}: can be read$")
        for pair, name in ((site.pair, "localhost"), (other, "other.example")):
            server.wait_log(
                rf"^s6-tlsd-io: info: CERTFILE {pair.certificate}: .*; for {name}; from \S+ to \S+; issued by "
            )
        assert "warning" not in server.log() and "fatal" not in server.log()

        replace(cdb, b"broken")
        replace(other.key, b"broken")
        ask(2)
        server.wait_log(rf"^s6-tcpserver-access: fatal: unable to check rules in {cdb}: not a cdb file: too short$")
        server.wait_log(rf"^s6-tlsd-io: fatal: unable to read KEYFILE {other.key}: it is neither PEM nor DER: ")

        Path(cdb).unlink()
        site.compile(rules)
        replace(site.pair.key, Path(site.authority.issue("next.example").key).read_bytes())
        ask(3)
        server.wait_log(rf"unable to use KEYFILE {site.pair.key} with .*: going on with the last key and certificate$")
        assert peers.answer(server, by, b"in") == b"in"

        running.sendall(b"still there?")
        assert running.recv(100) == b"still there?"
