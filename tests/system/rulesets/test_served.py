"""The rule sets of rules/, as they stand, serving real TLS clients.

Clients of these tests come from 127.0.0.0/8: a copy of the tree has networks of it in the place of those that the
tree names, and the test's directory in the place of /etc/s6tls.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.servers import BIN, PATIENCE, Server, read_all, server
from tests.support.site import Authority, Pair, Site, of

RULES = Path(__file__).parents[3] / "rules"
NETWORKS = {
    "10.0.0.0_8": "127.10.0.0_16",
    "192.0.2.0_24": "127.2.0.0_24",
    "198.51.100.0_24": "127.51.100.0_24",
    "198.51.100.10_32": "127.51.100.10_32",
    "203.0.113.0_24": "127.113.0.0_24",
    "203.0.113.7_32": "127.113.0.7_32",
}
OFFICE, ALPHA, BETA, INSIDE = "127.2.0.9", "127.51.100.9", "127.113.0.9", "127.10.2.3"
ELSEWHERE = "127.0.0.1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, "connection")


def compiled(site: Site, name: str) -> str:
    """Compile a rule set, moved to where the test is; return the cdb's path."""
    tree = site.place / f"{name}.tree"
    shutil.copytree(RULES / name / "tree", tree)
    for rule in list(tree.glob("*/*")):
        rule.rename(rule.with_name(NETWORKS.get(rule.name, rule.name)))
    for file in tree.glob("*/*/env/*"):
        file.write_text(file.read_text().replace("/etc/s6tls", str(site.place)))
    cdb = str(site.place / f"{name}.cdb")
    subprocess.run([f"{BIN}/s6-accessrules-cdb-from-fs", "--strict", cdb, str(tree)], check=True, timeout=PATIENCE)
    return cdb


@contextmanager
def serving(site: Site, name: str, *prog: str, options: tuple[str, ...] = (), default: bool = True) -> Iterator[Server]:
    """Serve with a rule set; `default` has the site's key and certificate in the server's environment."""
    words = ["s6-tlsserver", "-v", "-H", "-x", compiled(site, name), *options, "--", "127.0.0.1", "0", *prog]
    with server(words, of(site.pair) if default else {}) as s:
        yield s


def told(s: Server, by: ssl.SSLContext, source: str) -> bytes:
    """Return what the service tells a client."""
    return peers.answer(s, by, source=source)


def denied(s: Server, source: str) -> bool:
    with peers.connect(s, source=source) as client:
        return read_all(client) == b""


def place_authority(site: Site, name: str) -> Authority:
    (site.place / name).mkdir()
    return Authority(site.place / name)


def install(site: Site, pair: Pair, stem: str) -> None:
    os.rename(pair.key, site.place / f"{stem}.key")
    os.rename(pair.certificate, site.place / f"{stem}.pem")


def test_one_network(site: Site) -> None:
    by = peers.context(site.authority.file)
    with serving(site, "one-network", "echo", "hello") as s:
        assert told(s, by, OFFICE) == b"hello\n"
        assert denied(s, "127.2.1.9")
        assert denied(s, ELSEWHERE)


def test_deny_list(site: Site) -> None:
    by = peers.context(site.authority.file)
    with serving(site, "deny-list", "echo", "hello") as s:
        assert told(s, by, ELSEWHERE) == b"hello\n"
        assert denied(s, "127.51.100.9")
        assert told(s, by, "127.51.100.10") == b"hello\n"
        assert denied(s, "127.113.0.7")
        assert told(s, by, "127.113.0.8") == b"hello\n"


def test_each_network_is_shown_its_certificate(site: Site) -> None:
    inside, public = place_authority(site, "inside"), place_authority(site, "public")
    install(site, inside.issue("localhost"), "inside")
    install(site, public.issue("localhost"), "public")
    by_inside, by_public = peers.context(inside.file), peers.context(public.file)
    prog = ("sh", "-c", "echo hello $KEYFILE $CERTFILE")
    with serving(site, "certificates", *prog, default=False) as s:
        assert told(s, by_inside, INSIDE) == b"hello\n"
        assert told(s, by_public, ELSEWHERE) == b"hello\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            peers.dial(s, by_public, source=INSIDE)
        with pytest.raises(ssl.SSLCertVerificationError):
            peers.dial(s, by_inside, source=ELSEWHERE)


def test_partners_are_known_by_their_own_authorities(site: Site) -> None:
    alpha, beta = place_authority(site, "alpha"), place_authority(site, "beta")
    for name, authority in {"alpha": alpha, "beta": beta}.items():
        shutil.copy(authority.file, site.place / f"{name}-ca.pem")
    by_alpha = peers.context(site.authority.file, pair=alpha.issue("alice"))
    by_beta = peers.context(site.authority.file, pair=beta.issue("bob"))
    by_nobody = peers.context(site.authority.file)
    prog = ("sh", "-c", 'echo "$PARTNER ${SSL_PEER_CERT_SUBJECT%%,*}"')
    with serving(site, "partners", *prog, options=("-y",)) as s:
        assert told(s, by_alpha, ALPHA).startswith(b"alpha CN=alice")
        assert told(s, by_beta, BETA).startswith(b"beta CN=bob")
        for by, source in ((by_alpha, BETA), (by_beta, ALPHA), (by_nobody, ALPHA), (by_nobody, BETA)):
            assert peers.refused(s, by, source=source)
        assert denied(s, ELSEWHERE)


def test_each_network_has_its_user_and_its_limit(site: Site) -> None:
    by = peers.context(site.authority.file)
    prog = ("sh", "-c", "echo $(id -u) $(id -G) ${UID-none}; cat")
    with serving(site, "users", *prog, options=("-U",)) as s, ExitStack() as stack:

        def come(source: str) -> bytes:
            client = stack.enter_context(peers.dial(s, by, source=source))
            return client.recv(100)

        assert [come(ELSEWHERE), come(ELSEWHERE)] == [b"65534 65534 none\n"] * 2
        assert peers.refused(s, by, source=ELSEWHERE)
        s.wait_log(r"^s6-connlimit: info: number of connections from this client limited to 2$")
        assert [come(OFFICE) for _ in range(3)] == [b"1001 1001 2001 none\n"] * 3


def test_a_maintenance_page(site: Site) -> None:
    by = peers.context(site.authority.file)
    with serving(site, "maintenance", "echo", "the service") as s:
        assert told(s, by, OFFICE) == b"the service\n"
        with peers.dial(s, by, source=ELSEWHERE, strict=True) as client:
            client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            page = peers.read_all(client)
        head, _, body = page.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 3600\r\n")
        assert body == b"back at noon\n"
        s.wait_log(r"end pid \d+ exitcode 0", 2)
