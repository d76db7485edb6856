"""Clients with certificates: who gets in, what the program knows, and that no ticket gets anybody past a rule."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from tests.support import peers, pki
from tests.support.servers import PATIENCE, Server
from tests.support.site import ALLOW, Authority, Env, Pair, Site, allow, of, replace

ONE, TWO = "ip4/127.0.0.1_32", "ip4/127.0.0.2_32"
EACH_VERSION = pytest.mark.parametrize("version", peers.VERSIONS)
WHO = ("sh", "-c", 'echo "$(id -u) $SSL_SESSION_REUSED $SSL_PEER_CERT_SAN"; exec cat')
"""A program that says who it is, whether the session is a resumed one, and whose."""


def second(site: Site, name: str = "second") -> Authority:
    (site.place / name).mkdir()
    return Authority(site.place / name)


def install(pair: pki.Pair, place: Path, name: str) -> Pair:
    key, certificate = pair.write(place, name)
    return Pair(os.fsdecode(key), os.fsdecode(certificate))


def said(client: ssl.SSLSocket) -> list[str]:
    """Return what WHO says: its user, "1" for a resumed session, and the client's names."""
    return client.recv(1000).decode().rstrip("\n").split(" ")


# Authorities


def pem(authority: Authority) -> bytes:
    return Path(authority.file).read_bytes()


def der(authority: Authority) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem(authority).decode())


@pytest.mark.parametrize("way", ["PEM", "DER", "one file with both", "hashed", "with others beside"])
def test_authorities_in_a_directory(site: Site, way: str) -> None:
    ours, theirs = site.authority, second(site)
    cas = site.place / "cas"
    cas.mkdir()
    if way == "one file with both":
        (cas / "all").write_bytes(pem(ours) + pem(theirs))
    else:
        for name, authority in (("ours", ours), ("theirs", theirs)):
            (cas / f"{name}.pem").write_bytes((der if way == "DER" else pem)(authority))
    if way == "hashed":
        subprocess.run(["openssl", "rehash", str(cas)], check=True, timeout=PATIENCE)
        assert len(list(cas.iterdir())) == 4
        (cas / "01234567.r0").write_bytes(b"a revocation list")
    if way == "with others beside":
        (cas / ".hidden").write_bytes(b"no certificate")
        (cas / "below").mkdir()
        (cas / "below" / "file").write_bytes(b"no certificate")
    with site.serve("cat", options=("-y",), env={**site.env, "CADIR": str(cas)}) as server:
        for authority in (ours, theirs):
            by = peers.context(ours.file, pair=authority.issue("alice.example"))
            assert peers.answer(server, by, b"in") == b"in"
        stranger = second(site, "third").issue("eve.example")
        assert peers.refused(server, peers.context(ours.file, pair=stranger))
        server.wait_log("handshake with .*: certificate verify failed: unable to get local issuer certificate$")


def test_an_authority_file_in_der(site: Site) -> None:
    path = site.place / "ca.der"
    path.write_bytes(der(site.authority))
    by = peers.context(site.authority.file, pair=site.authority.issue("alice.example"))
    with site.serve("cat", options=("-y",), env={**site.env, "CAFILE": str(path)}) as server:
        assert peers.answer(server, by, b"in") == b"in"


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        (b"no certificate", r"unable to read CADIR \S+/cas/odd: ."),
        (None, "unable to check client certificates: there is no CA in CADIR$"),
    ],
)
def test_a_directory_that_is_no_good_refuses_everybody(site: Site, contents: bytes | None, complaint: str) -> None:
    cas = site.place / "cas"
    cas.mkdir()
    (cas / "good").write_bytes(pem(site.authority))
    by = peers.context(site.authority.file, pair=site.authority.issue("alice.example"))
    with site.serve("cat", options=("-Y",), env={**site.env, "CADIR": str(cas)}) as server:
        if contents is None:
            (cas / "good").unlink()
        else:
            (cas / "odd").write_bytes(contents)
        assert peers.refused(server, by)
        server.wait_log(f"^s6-tlsd-io: fatal: {complaint}")


def test_asking_for_certificates_without_an_authority_is_an_error_of_the_rule(site: Site) -> None:
    rules = site.compile({ONE: ALLOW, TWO: allow(CAFILE=site.authority.file)})
    by = peers.context(site.authority.file, pair=site.authority.issue("alice.example"))
    with site.serve("cat", options=("-y", "-x", rules)) as server:
        assert peers.refused(server, by)
        server.wait_log("^s6-tlsd-io: fatal: client certificates asked for, but no CADIR or CAFILE set$")
        assert peers.answer(server, by, b"in", source="127.0.0.2") == b"in"


# What the program knows


def test_names_that_do_not_apply_are_removed_even_if_they_were_there(site: Site) -> None:
    names = [f"SSL_PEER_CERT_{what}" for what in ("HASH", "SUBJECT", "ISSUER", "SERIAL", "SAN", "NOTAFTER")]
    stale = dict.fromkeys([*names, "SSL_SESSION_REUSED", "SSL_ALPN", "SSL_TLS_SNI_SERVERNAME"], "forged")
    rules = site.compile({ONE: allow(**stale)})
    env = {**site.env, **stale, "CAFILE": site.authority.file, "CRLFILE": "/nowhere/unless/asked/for"}
    with site.serve("env", "-0", options=("-x", rules), env=env) as server:
        found = peers.environment(peers.answer(server, peers.context(site.authority.file)))
    assert {name for name in found if name.startswith(b"SSL_")} == {
        b"SSL_PROTOCOL",
        b"SSL_CIPHER",
        b"SSL_TLS_SNI_SERVERNAME",
    }
    assert b"forged" not in found.values() and not {b"CAFILE", b"CRLFILE"} & set(found)


def test_a_certificate_as_openssl_reads_it(site: Site) -> None:
    person = site.authority.issue("alice.example")
    by = peers.context(site.authority.file, pair=person)
    env = {**site.env, "CAFILE": site.authority.file}
    with site.serve("env", "-0", options=("-y",), env=env) as server:
        found = peers.environment(peers.answer(server, by))
    words = ["-noout", "-serial", "-issuer", "-subject", "-nameopt", "RFC2253", "-enddate", "-dateopt", "iso_8601"]
    openssl = subprocess.run(
        ["openssl", "x509", "-in", person.certificate, *words], capture_output=True, check=True, timeout=PATIENCE
    ).stdout.decode()
    read = dict(line.split("=", 1) for line in openssl.splitlines())
    assert found[b"SSL_PEER_CERT_SERIAL"].decode() == read["serial"]
    assert found[b"SSL_PEER_CERT_ISSUER"].decode() == read["issuer"]
    assert found[b"SSL_PEER_CERT_SUBJECT"].decode() == read["subject"]
    assert found[b"SSL_PEER_CERT_NOTAFTER"].decode() == read["notAfter"].replace(" ", "T", 1)
    assert found[b"SSL_PEER_CERT_SAN"] == b"DNS:alice.example"


def test_a_protocol_is_agreed_on(site: Site) -> None:
    with site.serve("sh", "-c", "echo $SSL_ALPN", options=("--alpn", "h2,http/1.1")) as server:
        for offered, agreed in ((["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), ([], "")):
            by = peers.context(site.authority.file)
            if offered:
                by.set_alpn_protocols(offered)
            assert peers.answer(server, by).decode().strip() == agreed
        by = peers.context(site.authority.file)
        by.set_alpn_protocols(["smtp"])
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            peers.dial(server, by)
        server.wait_log("handshake with .*: no application protocol$")


# Revocation


def revocation_site(site: Site) -> tuple[dict[str, Pair], Env]:
    """Two persons of an authority that revokes, and the environment of a server that trusts it."""
    root = site.place / "clients.pem"
    root.write_bytes(pki.root("clients"))
    people = {name: install(pki.pair(name, by="clients"), site.place, name) for name in ("alice", "mallory")}
    return people, {**site.env, "CAFILE": str(root), "CRLFILE": str(site.place / "crl")}


@EACH_VERSION
def test_a_certificate_revoked_now_is_refused_now_ticket_or_not(site: Site, version: ssl.TLSVersion) -> None:
    people, env = revocation_site(site)
    replace(env["CRLFILE"], pki.revocations(by="clients"))
    alice, mallory = (peers.context(site.authority.file, version, people[name]) for name in people)
    with site.serve(*WHO, options=("-y",), env=env) as server:
        held = session(server, mallory)
        assert resumes(server, mallory, held)
        replace(env["CRLFILE"], pki.revocations(pki.pair("mallory", by="clients"), by="clients"))
        assert peers.refused(server, mallory, session=held)
        assert peers.refused(server, mallory)
        server.wait_log("handshake with .*: certificate verify failed: certificate revoked$", 2)
        assert peers.answer(server, alice, b"in").endswith(b"in")


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        (None, r"unable to read CRLFILE \S+/crl: No such file or directory: put it there"),
        (b"no list", r"unable to read CRLFILE \S+/crl: ."),
        (pki.revocations(by="clients", days=-1), "handshake with .*: certificate verify failed: CRL has expired$"),
        (pki.revocations(by="others"), "handshake with .*: certificate verify failed: unable to get certificate CRL$"),
    ],
    ids=["missing", "broken", "expired", "another's"],
)
def test_a_list_that_is_no_good_refuses_everybody(site: Site, contents: bytes | None, complaint: str) -> None:
    people, env = revocation_site(site)
    good = pki.revocations(by="clients")
    replace(env["CRLFILE"], good)
    by = peers.context(site.authority.file, pair=people["alice"])
    with site.serve("cat", options=("-y",), env=env) as server:
        if contents is None:
            os.unlink(env["CRLFILE"])
        else:
            replace(env["CRLFILE"], contents)
        assert peers.refused(server, by)
        server.wait_log(f"^s6-tlsd-io: (fatal: |info: unable to complete the ){complaint}")
        replace(env["CRLFILE"], good)
        assert peers.answer(server, by, b"in") == b"in"


# Tickets under other rules


def session(server: Server, by: ssl.SSLContext, source: str = "127.0.0.1") -> ssl.SSLSession:
    """Return the session of a new connection to WHO, its ticket received."""
    with peers.dial(server, by, source=source) as client:
        said(client)
        assert not client.session_reused and client.session is not None
        return client.session


def resumes(server: Server, by: ssl.SSLContext, held: ssl.SSLSession, source: str = "127.0.0.1") -> bool:
    """Tell whether a session resumes, on which client and program agree; the client is served in any case."""
    with peers.dial(server, by, session=held, source=source) as client:
        assert (said(client)[1] == "1") == client.session_reused
        return bool(client.session_reused)


def pairs_of_rules(site: Site) -> dict[str, tuple[Rule, Rule]]:
    """Pairs of rules that would both let the client in, and differ in a single parameter of TLS."""
    _, env = revocation_site(site)
    ca, crl = env["CAFILE"], env["CRLFILE"]
    replace(crl, pki.revocations(by="clients"))
    copies = site.place / "copies"
    copies.mkdir()
    for path in (ca, crl, site.pair.key):
        (copies / Path(path).name).write_bytes(Path(path).read_bytes())
    (copies / "cas").mkdir()
    (copies / "cas" / "ca").write_bytes(pki.root("clients"))
    other = of(site.authority.issue("second.example"))
    return {
        "CA": (allow(CAFILE=ca), allow(CAFILE=str(copies / "clients.pem"))),
        "CADIR": (allow(CAFILE=ca), allow(CADIR=str(copies / "cas"))),
        "certificate": (allow(CAFILE=ca), allow(CAFILE=ca, **other)),
        "KEYFILE": (allow(CAFILE=ca), allow(CAFILE=ca, KEYFILE=str(copies / "localhost.key"))),
        "TLS_UID": (allow(CAFILE=ca), allow(CAFILE=ca, TLS_UID="64099")),
        "TLS_GID": (allow(CAFILE=ca), allow(CAFILE=ca, TLS_GID="64099")),
        "CRLFILE": (allow(CAFILE=ca, CRLFILE=crl), allow(CAFILE=ca, CRLFILE=str(copies / "crl"))),
        "no CRLFILE": (allow(CAFILE=ca), allow(CAFILE=ca, CRLFILE=crl)),
    }


DIFFERENCES = ["CA", "CADIR", "certificate", "KEYFILE", "TLS_UID", "TLS_GID", "CRLFILE", "no CRLFILE"]


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_ticket_counts_under_its_own_rule_only(site: Site, difference: str) -> None:
    one, two = pairs_of_rules(site)[difference]
    alice = Pair(str(site.place / "alice.key"), str(site.place / "alice.crt"))
    addresses = ("127.0.0.1", "127.0.0.2")
    with site.serve(*WHO, options=("-y", "-x", site.compile({ONE: one, TWO: two}))) as server:
        for version in peers.VERSIONS:
            by = peers.context(site.authority.file, version, alice)
            by.check_hostname = False
            held = {address: session(server, by, address) for address in addresses}
            for owner in addresses:
                for user in addresses:
                    assert resumes(server, by, held[owner], user) == (owner == user)


@pytest.mark.parametrize("option", ["-y", "-Y"])
def test_a_ticket_does_not_get_a_client_past_a_stricter_rule(site: Site, option: str) -> None:
    people, env = revocation_site(site)
    replace(env["CRLFILE"], pki.revocations(pki.pair("mallory", by="clients"), by="clients"))
    ca = env["CAFILE"]
    rules = {
        ONE: allow(CAFILE=ca),
        TWO: allow(CAFILE=second(site).file),
        "ip4/127.0.0.3_32": allow(CAFILE=ca, CRLFILE=env["CRLFILE"]),
    }
    with site.serve(*WHO, options=(option, "-x", site.compile(rules))) as server:
        for count, version in enumerate(peers.VERSIONS, 1):
            by = peers.context(site.authority.file, version, people["mallory"])
            held = session(server, by)
            assert resumes(server, by, held)
            for source, reason in (
                ("127.0.0.2", "unable to get local issuer certificate"),
                ("127.0.0.3", "certificate revoked"),
            ):
                assert peers.refused(server, by, session=held, source=source)
                server.wait_log(f"handshake with {source}_.*: certificate verify failed: {reason}$", count)


@EACH_VERSION
def test_an_anonymous_ticket_is_no_certificate(site: Site, version: ssl.TLSVersion) -> None:
    """With -Y a client without certificate gets a ticket; who asks with it later is still nobody."""
    by = peers.context(site.authority.file, version)
    env = {**site.env, "CAFILE": site.authority.file}
    with site.serve(*WHO, options=("-Y",), env=env) as server:
        held = session(server, by)
        by.load_cert_chain(*reversed(list(vars(site.authority.issue("alice.example")).values())))
        with peers.dial(server, by, session=held) as client:
            assert client.session_reused
            assert said(client)[1:] == ["1", ""]


@EACH_VERSION
def test_a_session_resumed_under_a_rule_with_another_user_has_that_user(site: Site, version: ssl.TLSVersion) -> None:
    """The program's user is no parameter of TLS: the ticket counts, and the rule of the moment says who runs."""
    rules = site.compile({ONE: allow(UID="64030", GID="1", GIDLIST=""), TWO: allow(UID="64040", GID="1", GIDLIST="")})
    by = peers.context(site.authority.file, version, site.authority.issue("alice.example"))
    env = {**site.env, "CAFILE": site.authority.file}
    with site.serve(*WHO, options=("-y", "-U", "-x", rules), env=env) as server:
        with peers.dial(server, by) as client:
            assert said(client) == ["64030", "", "DNS:alice.example"]
            held = client.session
        for source, uid in (("127.0.0.2", "64040"), ("127.0.0.1", "64030")):
            with peers.dial(server, by, session=held, source=source) as client:
                assert client.session_reused
                assert said(client) == [uid, "1", "DNS:alice.example"]


def test_a_ticket_does_not_get_a_client_past_a_denial(site: Site) -> None:
    by = peers.context(site.authority.file, pair=site.authority.issue("alice.example"))
    env = {**site.env, "CAFILE": site.authority.file}
    with site.serve(*WHO, options=("-y", "-x", site.compile({ONE: ALLOW})), env=env) as server:
        held = session(server, by)
        site.compile({TWO: ALLOW})
        assert peers.refused(server, by, session=held)
        assert resumes(server, by, held, "127.0.0.2")


def test_there_are_no_session_ids_to_resume_by(site: Site) -> None:
    by = peers.context(site.authority.file, peers.TLS12, site.authority.issue("alice.example"))
    by.options |= ssl.OP_NO_TICKET
    env = {**site.env, "CAFILE": site.authority.file}
    with site.serve(*WHO, options=("-y",), env=env) as server:
        held = session(server, by)
        assert not held.has_ticket
        assert not resumes(server, by, held)
