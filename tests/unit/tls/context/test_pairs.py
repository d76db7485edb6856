"""Two keys of different kinds for one server: the client's algorithms decide."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from OpenSSL import SSL

from s6tls.tls.context import BadConfiguration, Mismatch, build, renew
from s6tls.tls.credentials import SessionOptions, SniLevel
from tests.support import pki
from tests.support.pki import Pair
from tests.support.tls.memory import EACH_VERSION, Client, client_context, connect, ticket

ECDSA, RSA = pki.pair_by_intermediate(), pki.pair_by_intermediate(rsa_key=True)
ONLY_RSA = b"ECDHE-RSA-AES128-GCM-SHA256"
ONLY_ECDSA = b"ECDHE-ECDSA-AES128-GCM-SHA256"


def server(*pairs: Pair) -> SSL.Context:
    return build(pki.credentials(*((b"", pair) for pair in pairs)), SessionOptions())


def shown(client: Client) -> list[x509.Certificate]:
    return client.connection.get_peer_cert_chain(as_cryptography=True) or []


def certificates(pair: Pair) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pair.chain)


@pytest.mark.parametrize("pairs", [(ECDSA, RSA), (RSA, ECDSA)], ids=["ECDSA first", "RSA first"])
def test_each_client_of_tls_1_2_gets_the_chain_that_it_can_use(pairs: tuple[Pair, Pair]) -> None:
    for ciphers, pair in ((ONLY_RSA, RSA), (ONLY_ECDSA, ECDSA)):
        client = client_context(SSL.TLS1_2_VERSION, trusted=pki.root(), ciphers=ciphers)
        for context in (server(*pairs), renew(server(*pairs))):
            assert shown(connect(context, client)) == certificates(pair)


@EACH_VERSION
def test_sessions_resume_whichever_of_the_two_they_began_with(version: int) -> None:
    context, client = server(ECDSA, RSA), client_context(version)
    assert connect(context, client, session=ticket(context, client)).resumed


def test_a_name_may_have_two_as_well() -> None:
    named = tuple((b"a.example", pki.pair("a.example", rsa_key=rsa_key)) for rsa_key in (False, True))
    context = build(pki.credentials(*named, default=pki.pair()), SessionOptions(sni_level=SniLevel.OPTIONAL))
    for ciphers, (_, pair) in zip((ONLY_ECDSA, ONLY_RSA), named, strict=True):
        client = client_context(SSL.TLS1_2_VERSION, ciphers=ciphers)
        assert shown(connect(context, client, b"a.example"))[0] == certificates(pair)[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ECDSA, pki.pair("other.example")),
        (ECDSA, pki.self_made(ec.generate_private_key(ec.SECP384R1()))),
        (RSA, pki.pair("other.example", rsa_key=True)),
        (pki.pss(), pki.pss()),
    ],
    ids=["ECDSA", "other curve", "RSA", "RSA-PSS"],
)
def test_two_of_one_kind_are_refused(one: Pair, other: Pair) -> None:
    message = r"^unable to read KEYFILE2 /key: of the same kind as the first: ."
    with pytest.raises(BadConfiguration, match=message):
        server(one, other)


def test_different_kinds_of_rsa_and_of_curves_go_together() -> None:
    server(RSA, pki.pss())
    server(ECDSA, pki.self_made(ed25519.Ed25519PrivateKey.generate()))


def test_a_second_key_that_does_not_match_is_told_apart_from_the_first() -> None:
    with pytest.raises(
        Mismatch,
        match=r"^unable to use KEYFILE2 /key with CERTFILE2 /crt: the key is not that of the first certificate: .",
    ):
        server(ECDSA, Pair(RSA.key, pki.pair("other.example", rsa_key=True).chain))
    named = pki.credentials((b"a.example", ECDSA), (b"a.example", Pair(b"noise", RSA.chain)))
    with pytest.raises(BadConfiguration, match=r"^unable to read KEYFILE2:a\.example /key: it is neither PEM "):
        build(named, SessionOptions(sni_level=SniLevel.MANDATORY))


@EACH_VERSION
def test_a_key_for_pss_only_serves(version: int) -> None:
    client = connect(server(pki.pss()), client_context(version))
    assert shown(client) == certificates(pki.pss())
