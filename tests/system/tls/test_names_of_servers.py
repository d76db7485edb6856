"""Server names: which certificate a client is shown, and what a ticket for one name is worth under another."""

from __future__ import annotations

import ssl

import pytest

from tests.support import peers
from tests.support.servers import Server
from tests.support.site import Env, Site, allow, of

WHO = ("sh", "-c", 'echo "$SSL_TLS_SNI_SERVERNAME $SSL_SESSION_REUSED $SSL_PEER_CERT_SAN"; exec cat')
A, B = "a.example", "b.example"


def named(site: Site, *names: str) -> Env:
    """The variables for a key and certificate of each name."""
    return {f"{what}:{name}": path for name in names for what, path in of(site.authority.issue(name)).items()}


def lenient(site: Site, version: ssl.TLSVersion | None = None, person: str = "") -> ssl.SSLContext:
    """A client that takes any certificate of our authority, whatever its name."""
    made = peers.context(site.authority.file, version, site.authority.issue(person) if person else None)
    made.check_hostname = False
    return made


def shown(server: Server, by: ssl.SSLContext, name: str, source: str = "127.0.0.1") -> str:
    with peers.dial(server, by, name, source=source) as client:
        return peers.serial(client)


def said(client: ssl.SSLSocket) -> list[str]:
    """Return what WHO says: the name asked for, "1" for a resumed session, and the client's names."""
    return client.recv(1000).decode().rstrip("\n").split(" ")


def test_a_name_of_its_own_comes_before_a_wildcard_and_a_wildcard_before_the_default(site: Site) -> None:
    single = site.authority.issue("intranet")
    env = {**site.env, **named(site, "*.example", A), "KEYFILE:*": single.key, "CERTFILE:*": single.certificate}
    by = lenient(site)
    expected = {A: A, "A.EXAMPLE": A, B: "*.example", "x.y.example": "localhost", "example": "intranet"}
    with site.serve("cat", options=("-k1",), env=env) as server:
        for name, certificate in expected.items():
            assert shown(server, by, name) == certificate
        assert shown(server, by, "") == "localhost"


@pytest.mark.parametrize("variable", ["KEYFILE:a.example", "CERTFILE:a.example"])
def test_a_name_without_a_file_refuses_everybody_who_gets_it_from_a_rule(site: Site, variable: str) -> None:
    env = {**site.env, **named(site, A)}
    rules = site.compile({"ip4/127.0.0.1_32": allow(**{variable: "/nowhere"}), "ip4/127.0.0.2_32": allow()})
    by = lenient(site)
    with site.serve("cat", options=("-k1", "-x", rules), env=env) as server:
        assert peers.refused(server, by)
        server.wait_log(
            f"^s6-tlsd-io: fatal: unable to read {variable} /nowhere: No such file or directory: put it there"
        )
        assert shown(server, by, A, "127.0.0.2") == A


def test_names_by_rule(site: Site) -> None:
    """Each network has its own certificate for the same name."""
    one, two = named(site, A), named(site, B)
    env_two = {f"{what}:{A}": two[f"{what}:{B}"] for what in ("KEYFILE", "CERTFILE")}
    rules = site.compile({"ip4/127.0.0.1_32": allow(**one), "ip4/127.0.0.2_32": allow(**env_two)})
    by = lenient(site)
    with site.serve("cat", options=("-k2", "-x", rules), env={"TLS_UID": "64001"}) as server:
        assert shown(server, by, A) == A
        assert shown(server, by, A, "127.0.0.2") == B


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_a_ticket_of_one_name_under_another(site: Site, version: ssl.TLSVersion) -> None:
    """The client is still who it was: the names share authorities.

    The session has the name that is asked for now.  In TLS 1.2 it is not the one of the ticket (RFC 6066, 3).
    """
    env = {**named(site, A, B), **site.env, "CAFILE": site.authority.file}
    by = lenient(site, version, "alice.example")
    with site.serve(*WHO, options=("-k1", "-y"), env=env) as server:
        with peers.dial(server, by, A) as client:
            assert said(client) == [A, "", "DNS:alice.example"]
            held = client.session
        with peers.dial(server, by, B, held) as client:
            resumes = version == peers.TLS13
            assert client.session_reused == resumes
            assert said(client) == [B, "1" if resumes else "", "DNS:alice.example"]
        with peers.dial(server, by, A, held) as client:
            assert said(client) == [A, "1", "DNS:alice.example"]


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_a_ticket_opens_no_name_that_only_names_leave_out(site: Site, version: ssl.TLSVersion) -> None:
    """A session that resumes needs no certificate of ours; -k2 keeps what it promises all the same."""
    by = lenient(site, version)
    with site.serve(*WHO, options=("-k2",), env={**named(site, A), "TLS_UID": "64001"}) as server:
        with peers.dial(server, by, A) as client:
            assert said(client) == [A, "", ""]
            held = client.session
        for name in (B, "x.a.example"):
            assert peers.refused(server, by, name=name, session=held)
            server.wait_log(f"unable to complete the handshake with .*: no certificate for {name}$")
            assert peers.refused(server, by, name=name)


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_a_resumed_session_has_its_name_without_names_too(site: Site, version: ssl.TLSVersion) -> None:
    by = peers.context(site.authority.file, version)
    with site.serve(*WHO) as server:
        with peers.dial(server, by) as client:
            assert said(client) == ["localhost", "", ""]
            held = client.session
        with peers.dial(server, by, session=held) as client:
            assert said(client) == ["localhost", "1", ""]
