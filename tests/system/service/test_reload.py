"""Rules, keys and certificates as they stand now serve the next client; nobody restarts anything."""

from __future__ import annotations

import os
import re
import shutil
import ssl
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.servers import Server
from tests.support.site import ALLOW, DENY, ENDED, Authority, Pair, Site, allow, of, replace

ONE, TWO = "ip4/127.0.0.1_32", "ip4/127.0.0.2_32"


def echoes(client: ssl.SSLSocket) -> bool:
    client.sendall(b"still there?")
    return client.recv(100) == b"still there?"


def shown(server: Server, by: ssl.SSLContext) -> str:
    with peers.dial(server, by) as client:
        return peers.serial(client)


@pytest.fixture
def by(site: Site) -> ssl.SSLContext:
    made = peers.context(site.authority.file)
    made.check_hostname = False
    return made


def test_rules_of_a_file(site: Site, by: ssl.SSLContext) -> None:
    with site.serve("cat", options=("-x", site.compile({ONE: ALLOW}))) as server, peers.dial(server, by) as running:
        assert peers.refused(server, by, source="127.0.0.2")
        site.compile({ONE: DENY, TWO: ALLOW})
        assert peers.answer(server, by, b"in", source="127.0.0.2") == b"in"
        assert peers.refused(server, by)
        assert echoes(running)


def test_rules_of_a_directory(site: Site, by: ssl.SSLContext) -> None:
    tree = Path(site.write({ONE: ALLOW}))
    program = ("sh", "-c", 'printf %s "$MOOD"; exec cat')
    with site.serve(*program, options=("-i", str(tree))) as server, peers.dial(server, by) as running:
        assert peers.answer(server, by, b"in") == b"in"
        (tree / ONE / "env").mkdir()
        (tree / ONE / "env" / "MOOD").write_text("fine:")
        assert peers.answer(server, by, b"in") == b"fine:in"
        (tree / ONE / "allow").rename(tree / ONE / "deny")
        assert peers.refused(server, by)
        shutil.rmtree(tree / ONE)
        assert peers.refused(server, by)
        assert echoes(running)


@pytest.mark.parametrize("damage", [b"", b"not a cdb", bytes(4096), b"\xff" * 4096], ids=["empty", "text", "0", "ff"])
def test_a_broken_rule_file(site: Site, by: ssl.SSLContext, damage: bytes) -> None:
    """It lets nobody in and says why; whole again, it serves again."""
    cdb = site.compile({ONE: ALLOW})
    with site.serve("cat", options=("-x", cdb)) as server, peers.dial(server, by) as running:
        good = Path(cdb).read_bytes()
        replace(cdb, damage)
        for count in (1, 2):
            assert peers.refused(server, by)
            server.wait_log("exitcode 1(11)? count 1/40$", count)
        if damage != bytes(4096):  # a table without entries is a cdb without rules
            server.wait_log(r"^s6-tcpserver-access: fatal: unable to check rules in \S+: .", 2)
        replace(cdb, good)
        assert peers.answer(server, by, b"in") == b"in"
        os.unlink(cdb)
        assert peers.refused(server, by)
        server.wait_log(r"^s6-tcpserver-access: fatal: unable to check rules in \S+: No such file or directory$")
        replace(cdb, good)
        assert peers.answer(server, by, b"in") == b"in"
        assert echoes(running)


def test_a_rule_file_cut_short_under_our_feet(site: Site, by: ssl.SSLContext) -> None:
    """Not replaced but truncated in place: the server neither crashes nor lets anybody in by it."""
    cdb = site.compile({ONE: ALLOW})
    with site.serve("cat", options=("-x", cdb)) as server, peers.dial(server, by) as running:
        os.truncate(cdb, 2048)
        assert peers.refused(server, by)
        server.wait_log(r"unable to check rules in \S+: .")
        site.compile({ONE: ALLOW})
        assert peers.answer(server, by, b"in") == b"in"
        assert echoes(running)


def test_a_new_key_and_certificate(site: Site, by: ssl.SSLContext) -> None:
    with site.serve("cat") as server, peers.dial(server, by) as running:
        assert shown(server, by) == "localhost"
        for name in ("second.example", "third.example"):
            site.pair.install(site.authority.issue(name))
            assert [shown(server, by) for _ in range(4)] == [name] * 4
        assert echoes(running)


def test_a_new_key_of_a_rule(site: Site, by: ssl.SSLContext) -> None:
    other = site.authority.issue("other.example")
    rules = site.compile({ONE: ALLOW, TWO: allow(**of(other))})
    with site.serve("cat", options=("-x", rules)) as server, peers.dial(server, by, source="127.0.0.2") as running:
        assert peers.serial(running) == "other.example"
        other.install(site.authority.issue("newer.example"))
        with peers.dial(server, by, source="127.0.0.2") as client:
            assert peers.serial(client) == "newer.example"
        assert shown(server, by) == "localhost"
        assert echoes(running)


def damage_key(pair: Pair) -> None:
    replace(pair.key, b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")


def empty_certificate(pair: Pair) -> None:
    replace(pair.certificate, b"")


def remove_key(pair: Pair) -> None:
    os.unlink(pair.key)


def put_a_fifo(pair: Pair) -> None:
    os.unlink(pair.key)
    os.mkfifo(pair.key)


def put_a_directory(pair: Pair) -> None:
    os.unlink(pair.key)
    os.mkdir(pair.key)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (damage_key, r"unable to read KEYFILE \S+: what is in it is damaged: ."),
        (empty_certificate, r"unable to read CERTFILE \S+: it is empty: put ."),
        (remove_key, r"unable to read KEYFILE \S+localhost\.key: No such file or directory: put it "),
        (put_a_fifo, r"unable to read KEYFILE \S+localhost\.key: not a regular file: see "),
        (put_a_directory, r"unable to read KEYFILE \S+localhost\.key: Is a directory: see "),
    ],
)
def test_a_broken_key_or_certificate(site: Site, by: ssl.SSLContext, damage: object, complaint: str) -> None:
    """It serves nobody and says why; whole again, it serves again.  Sessions under the old one go on."""
    with site.serve("cat") as server, peers.dial(server, by) as running:
        good = Pair(site.pair.key + ".good", site.pair.certificate + ".good")
        shutil.copy(site.pair.key, good.key)
        shutil.copy(site.pair.certificate, good.certificate)
        assert callable(damage)
        damage(site.pair)
        for count in (1, 2, 3):
            assert peers.refused(server, by)
            server.wait_log(rf"{ENDED} (96|97|111) count 1/40$", count)
        server.wait_log(f"^s6-tlsd-io: fatal: {complaint}")
        if os.path.isdir(site.pair.key):
            os.rmdir(site.pair.key)
        site.pair.install(good)
        assert peers.answer(server, by, b"in") == b"in"
        assert echoes(running)


@pytest.mark.parametrize("key_first", [True, False])
def test_a_key_and_a_certificate_renewed_one_after_the_other(site: Site, by: ssl.SSLContext, key_first: bool) -> None:
    """Nobody is refused in between, and the log says so once."""
    newer = site.authority.issue("newer.example")
    steps = [(site.pair.key, newer.key), (site.pair.certificate, newer.certificate)]
    with site.serve("cat") as server, peers.crowd(8) as crowd:
        assert shown(server, by) == "localhost"
        for ours, theirs in steps if key_first else reversed(steps):
            names = set(crowd.map(lambda _: shown(server, by), range(16)))
            assert names == {"localhost"}
            replace(ours, Path(theirs).read_bytes())
        assert set(crowd.map(lambda _: shown(server, by), range(16))) == {"newer.example"}
        server.wait_log(r"^s6-tlsd-io: warning: unable to use KEYFILE \S+ with CERTFILE .*: going on with ")
        assert len(re.findall("unable to use", server.log())) == 1


def test_a_key_and_its_certificate_in_one_file(site: Site, by: ssl.SSLContext) -> None:
    both = str(site.place / "both.pem")

    def put(pair: Pair) -> None:
        replace(both, Path(pair.key).read_bytes() + Path(pair.certificate).read_bytes())

    put(site.pair)
    with site.serve("cat", env={**site.env, "KEYFILE": both, "CERTFILE": both}) as server:
        assert shown(server, by) == "localhost"
        put(site.authority.issue("newer.example"))
        assert [shown(server, by) for _ in range(4)] == ["newer.example"] * 4


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_a_new_authority_for_clients(site: Site, version: ssl.TLSVersion) -> None:
    """A client whose authority is trusted no more is not let in: not even with the session that it had."""
    by = peers.context(site.authority.file, version, site.authority.issue("alice.example"))
    trusted = str(site.place / "trusted.pem")
    shutil.copy(site.authority.file, trusted)
    (site.place / "other").mkdir()
    other = Authority(site.place / "other")
    env = {**site.env, "CAFILE": trusted}
    with site.serve("cat", options=("-y",), env=env) as server, peers.dial(server, by) as running:
        assert echoes(running)
        session = running.session
        with peers.dial(server, by, session=session) as again:
            assert again.session_reused and echoes(again)
        replace(trusted, Path(other.file).read_bytes())
        assert peers.refused(server, by, session=session)
        assert peers.refused(server, by)
        assert echoes(running)
