"""--sni-directory: a key and a certificate for each name, while the server runs; and what ACME clients do to it."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support import peers, servers
from tests.support.servers import PATIENCE, Server
from tests.support.site import Env, Pair, Site, replace

EXAMPLES = Path(__file__).parents[3] / "examples/acme"
A, B = "a.example", "b.example"
ONLY_NAMES = {"TLS_UID": "64001"}


class Names:
    """A directory of names, beside a site, that only root can read; and a client that takes any certificate of it."""

    def __init__(self, site: Site) -> None:
        self.site, self.place = site, site.place / "names"
        self.place.mkdir(mode=0o700)
        self.by = peers.context(site.authority.file)
        self.by.check_hostname = False
        self._issued = 0

    def issue(self, name: str) -> Pair:
        """Issue another certificate for a name, in other files than those before."""
        self._issued += 1
        place = str(self.site.place / f"issued {self._issued}")
        os.mkdir(place)
        pair = self.site.authority.issue(name)
        return Pair(shutil.move(pair.key, place), shutil.move(pair.certificate, place))

    def put(self, entry: str, name: str) -> None:
        pair = self.issue(name)
        replace(str(self.place / f"{entry}.pem"), Path(pair.key).read_bytes() + Path(pair.certificate).read_bytes())

    def shown(self, server: Server, name: str) -> str:
        with peers.dial(server, self.by, name) as client:
            return peers.serial(client)

    def number(self, server: Server, name: str) -> bytes:
        """Return what tells one certificate of a name from another."""
        with peers.dial(server, self.by, name) as client:
            found = client.getpeercert(binary_form=True)
            assert found is not None
            return found

    def refused(self, server: Server, name: str) -> None:
        assert peers.refused(server, self.by, name=name)
        who = name or "a peer that asks for no name"
        server.wait_log(f"unable to complete the handshake with .*: no certificate for {who}$")


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names(Site(tmp_path, "connection"))


def test_names_come_go_and_change_without_a_restart(names: Names) -> None:
    names.put(A, A)
    names.put("_.wild.example", "*.wild.example")
    options = ("-k2", f"--sni-directory={names.place}")
    with names.site.serve("cat", options=options, env=ONLY_NAMES) as server:
        server.wait_log(r"^s6-tlsd: info: serves \*\.wild\.example, a\.example, no others$")
        assert names.shown(server, A) == A and names.shown(server, "x.wild.example") == "*.wild.example"
        names.refused(server, B)
        names.refused(server, "")
        names.put(B, B)
        before = names.number(server, B)
        names.put(B, B)
        assert names.number(server, B) != before
        (names.place / f"{B}.pem").write_bytes(b"half a")
        names.refused(server, B)
        assert server.wait_log(f"s6-tlsd-io: warning: unable to .*: clients that ask for {B} are refused$")
        assert names.shown(server, A) == A
        os.unlink(names.place / f"{A}.pem")
        names.refused(server, A)


def test_beside_a_default_and_variables(names: Names) -> None:
    site = names.site
    names.put(A, A)
    pair = names.issue(B)
    env: Env = {**site.env, f"KEYFILE:{B}": pair.key, f"CERTFILE:{B}": pair.certificate}
    with site.serve("cat", options=("--sni-directory", str(names.place)), env=env) as server:
        server.wait_log(r"^s6-tlsd: info: serves b\.example, a\.example, others with the default certificate$")
        expected = {A: A, B: B, "c.example": "localhost", "": "localhost"}
        assert {name: names.shown(server, name) for name in expected} == expected


class Certbot:
    """A stand-in for certbot: its tree of what was issued, and of links to the newest of each kind."""

    def __init__(self, place: Path) -> None:
        self.live, self._archive = place / "live", place / "archive"
        for tree in (self.live, self._archive):
            tree.mkdir(parents=True, mode=0o700)
        (self.live / "README").write_text("This directory contains your keys and certificates.\n")
        self._number = 0

    def issue(self, lineage: str, pair: Pair, between: object = None) -> None:
        """Write another generation, and let the links lead there, one after the other."""
        self._number += 1
        for tree in (self.live, self._archive):
            (tree / lineage).mkdir(exist_ok=True)
        key, chain = Path(pair.key).read_bytes(), Path(pair.certificate).read_bytes()
        kinds = {"cert": chain, "privkey": key, "chain": chain, "fullchain": chain}
        for kind, data in kinds.items():
            (self._archive / lineage / f"{kind}{self._number}.pem").write_bytes(data)
        for kind in kinds:
            link = self.live / lineage / f"{kind}.pem"
            link.unlink(missing_ok=True)
            link.symlink_to(f"../../archive/{lineage}/{kind}{self._number}.pem")
            if kind == "privkey" and callable(between):
                between()


def test_certbots_own_directory_and_a_renewal_while_serving(names: Names) -> None:
    """A key has been renewed, and its certificate has not: the last pair goes on."""
    certbot = Certbot(names.site.place / "letsencrypt")
    certbot.issue(A, names.issue(A))
    options = ("-k2", f"--sni-directory={certbot.live}")
    with names.site.serve("cat", options=options, env=ONLY_NAMES) as server:
        first = names.number(server, A)
        halfway: list[bytes] = []
        certbot.issue(A, names.issue(A), between=lambda: halfway.append(names.number(server, A)))
        second = names.number(server, A)
        assert halfway == [first] and second != first
        server.wait_log("warning: .*: going on with the last key and certificate$")


@pytest.mark.parametrize(
    ("hook", "prefix"), [("certbot-deploy", ""), ("lego-hook", "LEGO_"), ("lego-hook", "LEGO_HOOK_")]
)
def test_hooks(names: Names, hook: str, prefix: str) -> None:
    """Each puts a certificate under all of its names; what is there is replaced at one stroke."""
    certbot = Certbot(names.site.place / "letsencrypt")

    def renew() -> None:
        pair = names.issue(A)
        certbot.issue("lineage", pair)
        live = certbot.live / "lineage"
        env = {
            "PATH": servers.PATH,
            "S6TLS_NAMES": str(names.place),
            "RENEWED_LINEAGE": str(live),
            "RENEWED_DOMAINS": f"{A} *.a.example",
            f"{prefix}CERT_PATH": pair.certificate,
            f"{prefix}CERT_KEY_PATH": pair.key,
        }
        subprocess.run([EXAMPLES / hook], env=env, check=True, timeout=PATIENCE, cwd=names.place)

    renew()
    served = [A, "www.a.example"] if hook == "certbot-deploy" else [A]
    options = ("-k2", f"--sni-directory={names.place}")
    with names.site.serve("cat", options=options, env=ONLY_NAMES) as server:
        before = [names.number(server, name) for name in served]
        renew()
        after = [names.number(server, name) for name in served]
        assert not set(before) & set(after) and len(set(after)) == 1
        assert "warning" not in server.log()
    assert [(names.place / entry).stat().st_mode & 0o777 for entry in os.listdir(names.place)] == [0o640] * len(served)


def test_a_ticket_of_a_name_that_is_gone(names: Names) -> None:
    names.put(A, A)
    names.put(B, B)
    options = ("-k2", f"--sni-directory={names.place}")
    with names.site.serve("cat", options=options, env=ONLY_NAMES) as server:
        with peers.dial(server, names.by, A) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            held: ssl.SSLSession | None = client.session
        os.unlink(names.place / f"{A}.pem")
        assert peers.refused(server, names.by, name=A, session=held)
        with peers.dial(server, names.by, B, held) as client:
            assert not client.session_reused
