"""Which process does what, as whom, and what it can reach from there."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
from functools import partial

import pytest

from s6tls.posix.identity import own_account
from tests.support import kin, peers, processes
from tests.support.servers import Server
from tests.support.site import ALLOW, ENDED, TLS_GID, TLS_UID, Site, allow, of

COUNT = 6


def test_engines(site: Site) -> None:
    """A process for each session, or a few for all: under TLS_UID, without rights, and with nothing but sessions."""
    by = peers.context(site.authority.file)
    with contextlib.ExitStack() as clients, site.serve("cat") as server:
        held = [clients.enter_context(peers.dial(server, by)) for _ in range(COUNT)]
        for client in held:
            client.sendall(b"!")
            assert client.recv(1) == b"!"
        engines = [processes.engine(server, client) for client in held]
        if site.isolation == "connection":
            assert len(set(engines)) == COUNT
            assert [len(processes.sockets(engine)) for engine in engines] == [1] * COUNT
        else:
            assert len(set(engines)) <= max(2, os.cpu_count() or 1)
        for engine in engines:
            status = processes.status(engine)
            assert status["Uid"].split() == [str(TLS_UID)] * 4
            assert status["Gid"].split() == [str(TLS_GID)] * 4
            assert status["Groups"] == ""
            assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapAmb")] == [0, 0, 0]
            assert server.pid not in (engine, os.getpid())
            assert not set(_listening(server)) & set(processes.descriptors(engine).values())


def test_a_pool_that_may_open_too_few_files_is_replaced(site: Site) -> None:
    """Its engines could not take the descriptors of a connection."""
    by = peers.context(site.authority.file)
    with site.serve("cat") as server:
        with peers.dial(server, by) as client:
            pool = processes.status(processes.engine(server, client))["PPid"]
        as_the_pool = ("setpriv", f"--reuid={TLS_UID}", f"--regid={TLS_GID}", "--clear-groups")
        subprocess.run([*as_the_pool, "prlimit", "--nofile=5", "--pid", pool], check=True)
        for _ in range(COUNT):
            with peers.dial(server, by) as client:
                client.sendall(b"!")
                assert client.recv(1) == b"!"
        if site.isolation == "connection":
            server.wait_log("warning: this pool ends, to be replaced: it may open 5 files, not 32 any more$")


def test_a_quiet_servers_pool_is_quiet(site: Site) -> None:
    by = peers.context(site.authority.file)
    for options, said in (((), "was ended by SIGKILL"), (("-q",), "")):
        with site.serve("cat", options=options) as server, peers.dial(server, by) as client:
            client.sendall(b"!")
            assert client.recv(1) == b"!"
            engine = processes.engine(server, client)
            os.kill(engine, signal.SIGKILL)
            processes.await_that(partial(lambda path: not os.path.exists(path), f"/proc/{engine}"))
            if said:
                server.wait_log(said)
            else:
                assert server.log() == ""


GAMES = pwd.getpwnam("games")
OWN = own_account("s6tls-engine")
IDS = {
    "none named": ((), {}, (OWN.uid, OWN.gid)),
    "a user that has an account": ((), {"TLS_UID": str(GAMES.pw_uid)}, (GAMES.pw_uid, GAMES.pw_gid)),
    "a user that has none": ((), {"TLS_UID": "64001"}, (64001, 64001)),
    "a group": ((), {"TLS_GID": "64002"}, (OWN.uid, 64002)),
    "root, though": (("--allow-root-engine",), {"TLS_UID": "0"}, (0, 0)),
    "none, root allowed": (("--allow-root-engine",), {}, (OWN.uid, OWN.gid)),
}


@pytest.mark.parametrize("named", IDS)
def test_engines_of_root_are_not_root(site: Site, named: str) -> None:
    options, ids, (uid, gid) = IDS[named]
    by = peers.context(site.authority.file)
    with site.serve("cat", options=options, env={**of(site.pair), **ids}) as server:
        with peers.dial(server, by) as client:
            client.sendall(b"!")
            assert client.recv(1) == b"!"
            status = processes.status(processes.engine(server, client))
        assert status["Uid"].split() == [str(uid)] * 4
        assert status["Gid"].split() == [str(gid)] * 4
        assert status["Groups"] == ""


@pytest.mark.parametrize(
    ("name", "found"), [("TLS_UID", "user 0 and group 0"), ("TLS_GID", rf"user {TLS_UID} and group 0")]
)
def test_root_is_refused_as_an_engine(site: Site, name: str, found: str) -> None:
    rules = site.compile({"ip4/127.0.0.1_32": allow(**{name: "0"})})
    env = {**of(site.pair), "TLS_UID": str(TLS_UID)}
    with site.serve("cat", options=("-x", rules), env=env) as server:
        assert peers.refused(server, peers.context(site.authority.file))
        server.wait_log(f"^s6-tlsd-io: fatal: engines run as {found} only with --allow-root-engine$")
        server.wait_log(f"{ENDED} 96 count 0/40$")


def _listening(server: Server) -> list[str]:
    """Return the listening socket as a descriptor shows it."""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file.read().splitlines()[1:]]
    found = [f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and row[1].endswith(f":{server.port:04X}")]
    assert len(found) == 1 and found[0] in processes.descriptors(server.pid).values()
    return found


def test_an_engine_ends_with_its_session(site: Site) -> None:
    by = peers.context(site.authority.file)

    def at_fewest() -> bool:
        """A pool forks several in a row, so two to four wait: with each client one fewer, until it forks again."""
        few = len(list(kin.family(server.pid))) <= 2 + max(2, os.cpu_count() or 1)
        return few or not peers.answer(server, by, b"more")

    with site.serve("cat") as server:
        for number in range(20):
            assert peers.answer(server, by, b"%d" % number) == b"%d" % number
        processes.await_that(at_fewest)
        assert peers.answer(server, by, b"last") == b"last"
        assert len(processes.descriptors(server.pid)) < 24


def test_the_server_never_speaks_tls(site: Site) -> None:
    """The process that holds root and the listening socket loads no TLS library, whatever clients do."""
    by = peers.context(site.authority.file)
    rules = {"ip4/127.0.0.1_32": ALLOW, "ip4/127.0.0.2_32": allow(KEYFILE="/nowhere")}
    with site.serve("cat", options=("-x", site.compile(rules))) as server, peers.dial(server, by) as client:
        assert peers.answer(server, by, b"good") == b"good"
        assert peers.refused(server, by, source="127.0.0.2")
        with peers.connect(server) as rude:
            rude.sendall(b"garbage" * 100)
            server.wait_log("unable to complete the handshake")
        for library in ("libssl", "libcrypto", "_rust", "_ssl.", "cryptography", "OpenSSL"):
            assert library not in processes.maps(server.pid)
        assert "_rust" in processes.maps(processes.engine(server, client))


def test_the_key_is_read_by_root_alone(site: Site) -> None:
    """The engine's ids cannot read the key file."""
    by = peers.context(site.authority.file)
    assert os.stat(site.pair.key).st_mode & 0o777 == 0o600 and os.stat(site.pair.key).st_uid == 0
    with site.serve("cat") as server:
        assert peers.answer(server, by, b"hello") == b"hello"


def test_only_the_engine_holds_the_connection(site: Site) -> None:
    """The program has pipes, the server has let go: when the engine ends, the client sees it."""
    by = peers.context(site.authority.file)
    with site.serve("cat") as server, peers.dial(server, by) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        engine = processes.engine(server, client)
        os.kill(engine, signal.SIGKILL)
        with contextlib.suppress(OSError):
            assert client.recv(1) == b""
        server.wait_log(r"end pid \d+ exitcode 0 count [01]/40")
        assert peers.answer(server, by, b"next") == b"next"


def test_a_host_that_is_killed_is_started_again(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("cat") as server, peers.dial(server, by) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        host = int(processes.status(processes.engine(server, client))["PPid"])
        assert host != server.pid
        os.kill(host, signal.SIGKILL)
        processes.await_that(lambda: host not in server.children())
        assert peers.answer(server, by, b"next") == b"next"
        client.sendall(b"?")
        assert client.recv(1) == b"?"
