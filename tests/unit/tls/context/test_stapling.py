"""OCSP responses: which are stapled, and to what."""

from __future__ import annotations

import contextlib
import datetime
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from s6tls.pki import Unusable
from s6tls.pki.ocsp import staple
from s6tls.tls.context import build, renew
from s6tls.tls.credentials import Credentials, Keypair, NamedFile, SessionOptions, SniLevel
from s6tls.tls.pump import Pump
from tests.support import pki
from tests.support.pki import Pair, ocsp_response
from tests.support.tls.memory import EACH_VERSION, Client, client_context, shake_hands

ISSUING = "ours/issuing"
PAIR = pki.pair(by=ISSUING)
RESPONSE = ocsp_response(PAIR)


def keypair(pair: Pair, response: bytes, name: bytes = b"") -> Keypair:
    return pki.keypair(pair, name, response=NamedFile("OCSPFILE /response", response))


def server(*pairs: Keypair, level: SniLevel = SniLevel.NONE) -> SSL.Context:
    return build(Credentials(pairs), SessionOptions(sni_level=level))


def stapled(
    server: SSL.Context, version: int = SSL.TLS1_3_VERSION, ciphers: bytes = b"", name: bytes = b"server.example"
) -> bytes:
    """Return what a client that asks for a response gets."""
    heard: list[bytes] = []
    context = client_context(version, ciphers=ciphers)
    context.set_ocsp_client_callback(lambda _, data, __: heard.append(data) or True)  # type: ignore[func-returns-value]
    client = Client(context, name)
    client.connection.request_ocsp()
    shake_hands(Pump(server), client)
    assert client.established
    return b"".join(heard)


@EACH_VERSION
def test_a_response_goes_with_its_certificate_to_who_asks_for_it(
    version: int, capfd: pytest.CaptureFixture[str]
) -> None:
    context = server(keypair(PAIR, RESPONSE))
    for one in (context, renew(context)):
        assert stapled(one, version) == RESPONSE
    shake_hands(Pump(context), Client(client_context(version)))
    assert capfd.readouterr().err == ""


def test_of_two_keys_each_has_its_own() -> None:
    second = pki.pair(by=ISSUING, rsa_key=True)
    other = ocsp_response(second)
    context = server(keypair(PAIR, RESPONSE), keypair(second, other))
    assert stapled(context, SSL.TLS1_2_VERSION, b"ECDHE-ECDSA-AES128-GCM-SHA256") == RESPONSE
    assert stapled(context, SSL.TLS1_2_VERSION, b"ECDHE-RSA-AES128-GCM-SHA256") == other


def test_of_two_names_each_has_its_own() -> None:
    named = pki.pair("a.example", by=ISSUING)
    other = ocsp_response(named)
    context = server(keypair(PAIR, RESPONSE), keypair(named, other, b"a.example"), level=SniLevel.OPTIONAL)
    assert stapled(context) == RESPONSE
    assert stapled(context, name=b"a.example") == other


def signer(usage: list[x509.ObjectIdentifier], by: str = ISSUING, days: int = 1) -> Pair:
    """Somebody to whom an authority has given a certificate."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    above = load_pem_private_key(pki.authority(by).private_key_pem.bytes(), None)
    assert isinstance(above, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "responder")])
    begins, ends = now - datetime.timedelta(days=9), now + datetime.timedelta(days=days)
    issuer = x509.load_pem_x509_certificate(pki.root(by)).subject
    made = x509.CertificateBuilder(issuer, name, key.public_key(), 7, begins, ends)
    if usage:
        made = made.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return Pair(pki.key_bytes(key), made.sign(above, hashes.SHA256()).public_bytes(Encoding.PEM))


RESPONDER = signer([ExtendedKeyUsageOID.OCSP_SIGNING])
BELIEVED = {
    "without an end": ocsp_response(PAIR, days=None),
    "by somebody who may sign for the authority": ocsp_response(PAIR, signer=RESPONDER),
}


@pytest.mark.parametrize("what", BELIEVED)
def test_other_responses_that_clients_believe(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert stapled(server(keypair(PAIR, BELIEVED[what]))) == BELIEVED[what]
    assert capfd.readouterr().err == ""


NOT_OURS = "not signed by the authority of the certificate"
LEFT_OUT = {
    "expired": (ocsp_response(PAIR, begins=-2, days=-1), "expired"),
    "not valid yet": (ocsp_response(PAIR, begins=1, days=2), "not valid yet"),
    "revoked": (ocsp_response(PAIR, status=ocsp.OCSPCertStatus.REVOKED), "the certificate is revoked"),
    "unknown": (ocsp_response(PAIR, status=ocsp.OCSPCertStatus.UNKNOWN), "the certificate is unknown"),
    "another certificate": (ocsp_response(pki.pair("other.example", by=ISSUING)), "about another certificate"),
    "another authority": (ocsp_response(PAIR, by="others"), NOT_OURS),
    "a stranger": (ocsp_response(PAIR, signer=signer([ExtendedKeyUsageOID.OCSP_SIGNING], "others")), NOT_OURS),
    "who may not sign": (ocsp_response(PAIR, signer=signer([ExtendedKeyUsageOID.CLIENT_AUTH])), NOT_OURS),
    "who may do nothing": (ocsp_response(PAIR, signer=signer([])), NOT_OURS),
    "who might once": (ocsp_response(PAIR, signer=signer([ExtendedKeyUsageOID.OCSP_SIGNING], days=-1)), NOT_OURS),
    "who is not told": (ocsp_response(PAIR, signer=RESPONDER, told=False), NOT_OURS),
    "altered": (RESPONSE[:-9] + bytes([RESPONSE[-9] ^ 1]) + RESPONSE[-8:], NOT_OURS),
    "try later": (
        ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
        "the authority has no answer: try_later",
    ),
    "cut": (RESPONSE[:-1], ""),
    "noise": (b"noise", ""),
    "nothing": (b"", "not there, not readable or empty"),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_clients_would_not_believe_is_left_out_with_a_warning(
    what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    response, why = LEFT_OUT[what]
    context = server(keypair(PAIR, response))
    (line,) = capfd.readouterr().err.splitlines()
    begin, end = "s6-tlsd-io: warning: unable to use OCSPFILE /response: ", ": it is left out"
    assert line.startswith(begin + why) and line.endswith(end) and len(line) > len(begin + end)
    assert stapled(context) == b""


def test_the_authority_must_be_in_the_chain(capfd: pytest.CaptureFixture[str]) -> None:
    alone = Pair(PAIR.key, x509.load_pem_x509_certificates(PAIR.chain)[0].public_bytes(Encoding.PEM))
    assert stapled(server(keypair(alone, RESPONSE))) == b""
    assert "the certificate of the authority is not in the chain" in capfd.readouterr().err


def test_one_that_has_expired_meanwhile_is_not_stapled_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    context = server(keypair(PAIR, RESPONSE))
    later = time.time() + 2 * 24 * 3600
    monkeypatch.setattr("s6tls.tls.context.stapling.clock", lambda: later)
    assert stapled(context) == b""


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(RESPONSE)), st.integers(0, 9), st.binary(max_size=9))
def test_no_response_is_too_strange(at: int, cut: int, junk: bytes) -> None:
    chain = x509.load_pem_x509_certificates(PAIR.chain)
    with contextlib.suppress(Unusable):
        damaged = RESPONSE[:at] + junk + RESPONSE[at + cut :]
        assert staple(damaged, chain, "").response == damaged
