"""Sessions resume: in whichever process, and never past another rule."""

from __future__ import annotations

import itertools
import ssl
import time
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.peers import s_client
from tests.support.servers import Server
from tests.support.site import ALLOW, ENDED, Authority, Rules, Site, allow, of

PROTOCOLS = {"tls1_2": "TLSv1.2", "tls1_3": "TLSv1.3"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_openssl_resumes(site: Site, protocol: str) -> None:
    """With eight connections no process can be meant; in worker mode every worker gets some of them."""
    ticket = str(site.place / "session.pem")
    with site.serve("sh", "-c", "read line; echo got $line", options=("-S",)) as server:
        said = s_client(server, site.authority.file, f"-{protocol}", "-sess_out", ticket)
        assert f"New, {PROTOCOLS[protocol]}" in said and "got hello" in said
        for _ in range(8):
            said = s_client(server, site.authority.file, f"-{protocol}", "-sess_in", ticket)
            assert f"Reused, {PROTOCOLS[protocol]}" in said and "got hello" in said


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_ticket_resumes_until_its_key_has_been_renewed_twice(site: Site, protocol: str) -> None:
    """Whenever it is asked, in no more than one place does the answer change from yes to no."""
    tickets, program = str(site.place / "session.pem"), ("sh", "-c", "read line; echo got $line")
    with site.serve(*program, options=("-S", "--ticket-lifetime=2")) as server:
        began = time.monotonic()
        assert f"New, {PROTOCOLS[protocol]}" in s_client(
            server, site.authority.file, f"-{protocol}", "-sess_out", tickets
        )
        issued = time.monotonic()
        answers = []
        while (asked := time.monotonic()) < issued + 4.5:
            said = s_client(server, site.authority.file, f"-{protocol}", "-sess_in", tickets)
            assert "got hello" in said
            answers.append((asked - began, time.monotonic() - issued, f"Reused, {PROTOCOLS[protocol]}" in said))
        assert all(reused for latest, _, reused in answers if latest < 1)
        assert not any(reused for _, earliest, reused in answers if earliest > 4)
        changes = sum(one[2] != other[2] for one, other in itertools.pairwise(answers))
        assert changes == 1


def test_no_client_is_lost_while_keys_are_renewed(site: Site) -> None:
    """Engines leave, and others take their place, with connections under way at every moment."""
    by = peers.context(site.authority.file)
    with site.serve("cat", options=("--ticket-lifetime=1",)) as server, peers.crowd(8) as crowd:
        until = time.monotonic() + 3.5

        def come_again_and_again(_: int) -> int:
            count = 0
            while time.monotonic() < until:
                assert peers.answer(server, by, b"in") == b"in"
                count += 1
            return count

        assert min(crowd.map(come_again_and_again, range(8))) > 1


def session(server: Server, by: ssl.SSLContext, source: str = "127.0.0.1") -> ssl.SSLSession:
    """Return the session of a new connection, its ticket received."""
    with peers.dial(server, by, source=source) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        assert not client.session_reused and client.session is not None
        return client.session


def resumes(server: Server, by: ssl.SSLContext, held: ssl.SSLSession, source: str = "127.0.0.1") -> bool:
    """Tell whether a session resumes; with it or without, the client is served."""
    with peers.dial(server, by, session=held, source=source) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        return bool(client.session_reused)


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_one_session_many_times_at_once(site: Site, version: ssl.TLSVersion) -> None:
    by = peers.context(site.authority.file, version)
    with site.serve("cat") as server, peers.crowd(8) as crowd:
        held = session(server, by)
        assert all(crowd.map(lambda _: resumes(server, by, held), range(40)))


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_a_resumed_session_still_knows_its_client(site: Site, version: ssl.TLSVersion) -> None:
    by = peers.context(site.authority.file, version, site.authority.issue("alice.example"))
    program = ("sh", "-c", 'echo "$SSL_PEER_CERT_HASH $SSL_PEER_CERT_SUBJECT"; exec cat')
    with site.serve(*program, options=("-y",), env={**site.env, "CAFILE": site.authority.file}) as server:
        with peers.dial(server, by) as client:
            known = client.recv(1000)
            held = client.session
        with peers.dial(server, by, session=held) as client:
            assert client.session_reused
            assert client.recv(1000) == known
            assert known.startswith(b"SHA256:") and b"CN=alice.example" in known


def rule_pairs(site: Site) -> dict[str, tuple[tuple[str, ...], Rules]]:
    """Pairs of rules that differ in one parameter of TLS, and the options that they need."""
    other = str(site.place / "other-ca.pem")
    Path(other).write_bytes(Path(site.authority.file).read_bytes())
    first, second = "ip4/127.0.0.1_32", "ip4/127.0.0.2_32"
    return {
        "key": ((), {first: ALLOW, second: allow(**of(site.authority.issue("second.example")))}),
        "authority": (("-Y",), {first: allow(CAFILE=site.authority.file), second: allow(CAFILE=other)}),
        "engine's user": ((), {first: ALLOW, second: allow(TLS_UID="64099")}),
    }


@pytest.mark.parametrize("version", peers.VERSIONS)
@pytest.mark.parametrize("difference", ["key", "authority", "engine's user"])
def test_a_ticket_is_worth_nothing_under_another_rule(site: Site, version: ssl.TLSVersion, difference: str) -> None:
    options, rules = rule_pairs(site)[difference]
    by = peers.context(site.authority.file, version)
    by.check_hostname = False
    with site.serve("cat", options=(*options, "-x", site.compile(rules))) as server:
        addresses = ("127.0.0.1", "127.0.0.2")
        held = {address: session(server, by, address) for address in addresses}
        for owner in addresses:
            for user in addresses:
                assert resumes(server, by, held[owner], user) == (owner == user)


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_a_certificate_for_one_rule_opens_no_other_by_ticket(site: Site, version: ssl.TLSVersion) -> None:
    """Where the second rule's authority does not know the client, its ticket from the first does not help."""
    (site.place / "second").mkdir()
    second = Authority(site.place / "second")
    rules = {"ip4/127.0.0.1_32": allow(CAFILE=site.authority.file), "ip4/127.0.0.2_32": allow(CAFILE=second.file)}
    by = peers.context(site.authority.file, version, site.authority.issue("alice.example"))
    with site.serve("cat", options=("-y", "-x", site.compile(rules))) as server:
        held = session(server, by)
        assert resumes(server, by, held)
        assert peers.refused(server, by, session=held, source="127.0.0.2")
        server.wait_log(f"{ENDED} 97 ")


def test_a_ticket_ends_with_its_key(site: Site) -> None:
    by = peers.context(site.authority.file)
    by.check_hostname = False
    with site.serve("cat") as server:
        held = session(server, by)
        assert resumes(server, by, held)
        site.pair.install(site.authority.issue("newer.example"))
        assert not resumes(server, by, held)
