"""Which sessions resume, and which names are served."""

from __future__ import annotations

import contextlib
import datetime
import time

import pytest
from cryptography import x509
from OpenSSL import SSL

from s6tls.tls.context import build, renew
from s6tls.tls.credentials import SessionOptions, SniLevel
from s6tls.tls.policy import SessionPolicy
from s6tls.tls.pump import Pump, TLSFailure
from tests.support import pki
from tests.support.pki import Pair, revocations
from tests.support.tls.memory import (
    DEFAULT,
    EACH_VERSION,
    MANDATORY,
    OPTIONAL,
    Client,
    client_context,
    connect,
    feed,
    shake_hands,
    take,
    ticket,
)

NAMED = (
    (b"a.example", pki.pair("a.example")),
    (b"*.b.example", pki.pair("*.b.example")),
    (b"x.b.example", pki.pair("x.b.example")),
)


def strict_context(revoked: bytes = b"") -> SSL.Context:
    """Only clients with a certificate are served."""
    return build(pki.credentials(default=pki.pair(), trusted=(pki.root("clients"),), revoked=revoked), MANDATORY)


def issue(name: str, until: datetime.datetime) -> Pair:
    issued = pki.authority("clients").issue_cert(name, not_after=until)
    return Pair(issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())


# Resumption


@EACH_VERSION
def test_a_session_resumes_with_the_context_that_gave_the_ticket(version: int) -> None:
    server = build(pki.credentials(default=pki.pair()), DEFAULT)
    client = client_context(version)
    again = connect(server, client, session=ticket(server, client))
    assert again.resumed


@EACH_VERSION
def test_a_session_under_a_name_resumes_under_that_name(version: int) -> None:
    server = build(pki.credentials(*NAMED, default=pki.pair()), SessionOptions(sni_level=SniLevel.OPTIONAL))
    client = client_context(version)
    assert connect(server, client, b"a.example", ticket(server, client, b"a.example")).resumed


@EACH_VERSION
@pytest.mark.parametrize("names", [(b"a.example", b"x.b.example"), (b"a.example", b""), (b"", b"a.example")])
def test_a_session_under_another_name_has_that_name(version: int, names: tuple[bytes, bytes]) -> None:
    # TLS 1.3 ties a session to no name (RFC 8446, 4.6.1).  In TLS 1.2 it does not resume (RFC 6066, 3).
    server = build(pki.credentials(*NAMED, default=pki.pair()), SessionOptions(sni_level=SniLevel.OPTIONAL))
    client = client_context(version)
    first, second = names
    pump, elsewhere = Pump(server), Client(client, second, ticket(server, client, first))
    shake_hands(pump, elsewhere)
    assert pump.connection.server_name == second
    assert elsewhere.resumed == (version == SSL.TLS1_3_VERSION)


def test_a_session_of_the_last_key_is_not_for_another_name_either() -> None:
    server = build(pki.credentials(*NAMED, default=pki.pair()), SessionOptions(sni_level=SniLevel.OPTIONAL))
    client = client_context(SSL.TLS1_2_VERSION)
    session = ticket(server, client, b"a.example")
    renewed = renew(server)
    same, other = Client(client, b"a.example", session), Client(client, b"x.b.example", session)
    for pump, again in ((Pump(renewed), same), (Pump(renewed), other)):
        shake_hands(pump, again)
    assert (same.resumed, other.resumed) == (True, False)


def test_a_first_message_without_end_is_refused() -> None:
    pump = Pump(build(pki.credentials(default=pki.pair()), DEFAULT))
    record = b"\x16\x03\x01\x40\x00"
    feed(pump, record + b"\1\1\xff\xff" + bytes(16380))
    with pytest.raises(TLSFailure, match=r"^the first message is too long$"):
        for _ in range(4):
            feed(pump, record + bytes(16384))


@EACH_VERSION
def test_a_resumed_session_still_has_the_client_s_certificate(version: int) -> None:
    server = build(pki.credentials(default=pki.pair(), trusted=(pki.root("clients"),)), MANDATORY)
    client = client_context(version, certificate=pki.pair("client.example", by="clients"))
    pump = Pump(server)
    again = Client(client, session=ticket(server, client))
    shake_hands(pump, again)
    assert again.resumed
    assert pump.connection.peer_certificate is not None


@EACH_VERSION
def test_a_ticket_is_worth_nothing_to_another_context_even_of_the_same_parameters(version: int) -> None:
    credentials = pki.credentials(default=pki.pair())
    client = client_context(version)
    session = ticket(build(credentials, DEFAULT), client)
    assert not connect(build(credentials, DEFAULT), client, session=session).resumed


@EACH_VERSION
@pytest.mark.parametrize("by", ["clients", ""])
def test_a_ticket_got_under_laxer_parameters_does_not_stand_in_for_a_certificate(version: int, by: str) -> None:
    lax = build(pki.credentials(default=pki.pair(), trusted=(pki.root("strangers"),)), OPTIONAL)
    strict = build(pki.credentials(default=pki.pair(), trusted=(pki.root("clients"),)), MANDATORY)
    stranger = client_context(version, certificate=pki.pair("client.example", by="strangers") if by else None)
    with pytest.raises(TLSFailure):
        connect(strict, stranger, session=ticket(lax, stranger))


def test_a_client_cannot_renegotiate() -> None:
    pump, client = Pump(build(pki.credentials(default=pki.pair()), DEFAULT)), Client(client_context(SSL.TLS1_2_VERSION))
    shake_hands(pump, client)
    client.connection.renegotiate()
    with pytest.raises(SSL.WantReadError):
        client.connection.do_handshake()
    feed(pump, client.said())
    assert not take(pump)
    with pytest.raises(SSL.Error, match="no renegotiation"):
        shake_hands(pump, client)
        client.hear(b"".join(pump.to_network))


# What has run out since a ticket was issued


@EACH_VERSION
@pytest.mark.parametrize("what", ["certificate", "CRL"])
def test_a_client_does_not_resume_when_its_certificate_or_the_list_has_expired(
    version: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(hours=1)
    client = client_context(
        version,
        certificate=issue("short.example", end) if what == "certificate" else pki.pair("client.example", by="clients"),
    )
    strict = strict_context(revoked=revocations(by="clients", end=end) if what == "CRL" else b"")
    held, spare = ticket(strict, client), ticket(strict, client)
    pump, again = Pump(strict), Client(client, session=spare)
    shake_hands(pump, again)
    assert again.resumed
    later = end + datetime.timedelta(seconds=1)
    monkeypatch.setattr("s6tls.tls.policy.clock", later.timestamp)
    store = pump.connection.context.get_cert_store()
    assert store is not None
    store.set_time(later)
    with pytest.raises(TLSFailure, match=rf"^certificate verify failed: {what} has expired$") as failure:
        connect(strict, client, session=held)
    assert failure.value.during_handshake


def test_tickets_count_until_the_first_of_what_is_in_force_runs_out() -> None:
    root = x509.load_pem_x509_certificate(pki.root("clients"))
    strict = strict_context()
    assert strict.get_app_data() == SessionPolicy(False, valid_until=root.not_valid_after_utc.timestamp())
    lists = revocations(by="clients", days=-1) + revocations(by="clients", days=5) + revocations(by="others", days=7)
    valid_until = strict_context(revoked=lists).get_app_data().valid_until
    assert abs(valid_until - time.time() - 5 * 24 * 3600) < 60
    newer = lists + revocations(by="clients", days=9)
    assert strict_context(revoked=newer).get_app_data().valid_until > valid_until + 24 * 3600


# Names that are not served


@EACH_VERSION
def test_a_ticket_opens_no_name_that_is_not_served(version: int) -> None:
    named = build(pki.credentials((b"a.example", pki.pair("a.example"))), SessionOptions(sni_level=SniLevel.MANDATORY))
    client = client_context(version)
    talking = Client(client, b"a.example")
    shake_hands(Pump(named), talking)
    held = talking.connection.get_session()
    talking.connection.shutdown()
    again = Client(client, b"a.example", held)
    shake_hands(Pump(named), again)
    assert again.resumed
    again.connection.shutdown()
    for asked in (b"b.example", None):
        elsewhere = Client(client, asked, held)
        with pytest.raises((TLSFailure, SSL.Error)):
            shake_hands(Pump(named), elsewhere)
        with contextlib.suppress(SSL.Error):  # where the handshake has not begun to resume, there is nothing to end
            elsewhere.connection.shutdown()  # OpenSSL forgets a session that is left without


def test_a_star_alone_covers_names_of_one_label() -> None:
    pair = pki.pair("*.example")
    named = build(pki.credentials((b"*", pair)), SessionOptions(sni_level=SniLevel.MANDATORY))
    shake_hands(Pump(named), Client(client_context(), b"localhost"))
    for asked in (b"a.example", None):
        with pytest.raises(TLSFailure):
            shake_hands(Pump(named), Client(client_context(), asked))
