"""Ticket keys that are renewed: two of them are good at any time, and none that is older."""

from __future__ import annotations

import gc
import weakref

import pytest
from OpenSSL import SSL

from s6tls.tls import policy, wire
from s6tls.tls.context import build, renew
from s6tls.tls.context.tickets import key_name
from s6tls.tls.credentials import ClientCertificate, SessionOptions, SniLevel
from s6tls.tls.library import LibraryError
from s6tls.tls.pump import Pump
from tests.support import pki
from tests.support.tls.memory import (
    EACH_VERSION,
    Client,
    client_context,
    connect,
    drain,
    feed,
    shake_hands,
    ticket,
)

DEFAULT = SessionOptions()
MANDATORY = SessionOptions(client_certificate=ClientCertificate.MANDATORY)
NAMED = ((b"a.example", pki.pair("a.example")), (b"*.b.example", pki.pair("*.b.example")))


def plain() -> SSL.Context:
    return build(pki.credentials(default=pki.pair()), DEFAULT)


def hello(client: SSL.Context, session: SSL.Session) -> bytes:
    talking = Client(client, session=session)
    talking.hear()
    return talking.said()


@EACH_VERSION
def test_the_last_key_still_resumes_and_the_one_before_does_not(version: int) -> None:
    client = client_context(version)
    first = plain()
    held = [ticket(first, client) for _ in range(2)]
    second = renew(first)
    newer = ticket(second, client)
    assert connect(second, client, session=held[0]).resumed
    third = renew(second)
    assert connect(third, client, session=newer).resumed
    assert not connect(third, client, session=held[1]).resumed
    assert connect(third, client, session=ticket(third, client)).resumed


@EACH_VERSION
def test_it_is_the_new_key_that_seals_the_tickets_of_new_sessions(version: int) -> None:
    client = client_context(version)
    first = plain()
    ticket(first, client)
    second = renew(first)
    held = ticket(second, client)
    assert connect(renew(second), client, session=held).resumed
    assert not connect(first, client, session=held).resumed


def test_a_key_that_is_let_go_of_is_gone_from_memory() -> None:
    first = plain()
    gone = weakref.ref(first)
    connect(first)
    second = renew(first)
    connect(second)
    del first
    gc.collect()
    assert gone() is not None
    third = renew(second)
    gc.collect()
    assert gone() is None
    connect(third)


@EACH_VERSION
@pytest.mark.parametrize("size", [1, 100])
def test_a_greeting_that_comes_in_pieces_resumes_by_the_last_key(version: int, size: int) -> None:
    client = client_context(version)
    first = plain()
    held = ticket(first, client)
    pump, again = Pump(renew(first)), Client(client, session=held)
    again.hear()
    said = again.said()
    for at in range(0, len(said), size):
        feed(pump, said[at : at + size])
    again.hear(drain(pump))
    shake_hands(pump, again)
    assert again.resumed


def test_a_greeting_too_long_to_be_looked_at_is_no_harm() -> None:
    client = client_context(SSL.TLS1_3_VERSION)
    first = plain()
    said = hello(client, ticket(first, client))
    pump = Pump(renew(first))
    record = b"\x16\3\1" + (16000).to_bytes(2) + b"\1\0\xff\xff" + bytes(15996)
    pump.feed_network(5 * record + said)
    assert not pump.established


@EACH_VERSION
def test_a_client_still_needs_its_certificate_under_the_last_key(version: int) -> None:
    trusted = (pki.root("clients"),)
    client = client_context(version, certificate=pki.pair("client.example", by="clients"))
    strict = build(pki.credentials(default=pki.pair(), trusted=trusted), MANDATORY)
    held = ticket(strict, client)
    pump, again = Pump(renew(strict)), Client(client, session=held)
    shake_hands(pump, again)
    assert again.resumed and pump.connection.peer_certificate is not None


@EACH_VERSION
def test_tickets_of_other_parameters_stay_noise(version: int) -> None:
    client = client_context(version)
    assert not connect(renew(plain()), client, session=ticket(plain(), client)).resumed


@EACH_VERSION
@pytest.mark.parametrize("level", [SniLevel.OPTIONAL, SniLevel.MANDATORY])
def test_names_are_served_under_each_key(version: int, level: SniLevel) -> None:
    client = client_context(version)
    default = pki.pair() if level is SniLevel.OPTIONAL else None
    first = build(pki.credentials(*NAMED, default=default), SessionOptions(sni_level=level))
    held = ticket(first, client, b"a.example")
    second = renew(first)
    assert connect(second, client, b"a.example", held).resumed
    assert not connect(second, client, b"x.b.example").resumed


# The name of a key

CASES = {
    "plain": (pki.credentials(default=pki.pair()), DEFAULT, b""),
    "client certificates": (pki.credentials(default=pki.pair(), trusted=(pki.root("clients"),)), MANDATORY, b""),
    "names only": (pki.credentials(*NAMED), SessionOptions(sni_level=SniLevel.MANDATORY), b"x.b.example"),
    "protocols": (pki.credentials(default=pki.pair()), SessionOptions(alpn=(b"h2",)), b""),
    "another group": (pki.credentials(default=pki.pair()), SessionOptions(groups=b"P-521"), b""),
    "one cipher": (pki.credentials(default=pki.pair()), SessionOptions(ciphers=b"TLS_AES_128_GCM_SHA256"), b""),
    "TLS 1.3 only": (pki.credentials(default=pki.pair()), SessionOptions(tls13_only=True), b""),
    "delayed": (pki.credentials(default=pki.pair()), SessionOptions(delayed=True), b""),
}


@pytest.mark.parametrize("what", CASES)
def test_a_key_s_name_is_found_whatever_the_options(what: str) -> None:
    credentials, options, name = CASES[what]
    context = build(credentials, options)
    found = key_name(context, options, name)
    assert len(found) == 16
    assert found == key_name(context, options, name) != key_name(build(credentials, options), options, name)
    known = policy.of(renew(context)).predecessor
    assert known is not None and known.key_name == found


@EACH_VERSION
def test_a_client_shows_it_in_its_greeting(version: int) -> None:
    client, context = client_context(version), plain()
    said = hello(client, ticket(context, client))
    assert key_name(context, DEFAULT, b"") in said
    assert wire.ticket(said).startswith(key_name(context, DEFAULT, b"")) == (version == SSL.TLS1_3_VERSION)


def test_a_context_without_certificates_for_the_name_has_none() -> None:
    context = build(pki.credentials(*NAMED), SessionOptions(sni_level=SniLevel.MANDATORY))
    with pytest.raises(LibraryError):
        key_name(context, DEFAULT, b"elsewhere.example")


def test_tickets_last_no_longer_than_the_key_that_seals_them() -> None:
    assert plain().get_timeout() == 7200
    short = build(pki.credentials(default=pki.pair()), SessionOptions(ticket_lifetime_s=60))
    assert short.get_timeout() == 60
