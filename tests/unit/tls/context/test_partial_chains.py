"""Authorities that are no roots: their clients are welcome, and nobody else is for that."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL

from s6tls.tls.context import build
from s6tls.tls.credentials import ClientCertificate, SessionOptions
from s6tls.tls.pump import TLSFailure
from tests.support import pki
from tests.support.pki import Pair, revocations, root
from tests.support.tls.memory import EACH_VERSION, client_context, connect, ticket

MANDATORY = SessionOptions(client_certificate=ClientCertificate.MANDATORY)
ISSUING, SIBLING, DEEPER = "clients/issuing", "clients/sibling", "clients/issuing/deeper"
CLIENT = pki.pair("client.example", by=ISSUING)
ALONE = Pair(CLIENT.key, x509.load_pem_x509_certificates(CLIENT.chain)[0].public_bytes(Encoding.PEM))
"""The same, without the authority's certificate."""
SEVEN_DAYS = datetime.timedelta(days=7)


def server(*trusted: bytes, revoked: bytes = b"") -> SSL.Context:
    return build(pki.credentials(default=pki.pair(), trusted=trusted, revoked=revoked), MANDATORY)


def refusal(server: SSL.Context, certificate: Pair, version: int = SSL.TLS1_3_VERSION) -> str:
    """Return why a client with this certificate is refused, "" if it is not."""
    try:
        connect(server, client_context(version, certificate=certificate))
    except TLSFailure as failure:
        return str(failure).rpartition("certificate verify failed: ")[2]
    return ""


@EACH_VERSION
@pytest.mark.parametrize("certificate", [CLIENT, ALONE], ids=["with its authority", "alone"])
def test_clients_of_an_issuing_authority_are_welcome_without_its_root(version: int, certificate: Pair) -> None:
    assert refusal(server(root(ISSUING)), certificate, version) == ""


@EACH_VERSION
@pytest.mark.parametrize("by", ["clients", SIBLING, "strangers"])
def test_clients_of_its_root_and_of_other_authorities_are_not(version: int, by: str) -> None:
    assert refusal(server(root(ISSUING)), pki.pair("client.example", by=by), version)


def test_authorities_below_it_count() -> None:
    assert refusal(server(root(ISSUING)), pki.pair("client.example", by=DEEPER)) == ""
    assert refusal(server(root(DEEPER)), CLIENT)


def test_a_client_is_no_authority_for_itself() -> None:
    assert refusal(server(ALONE.chain), CLIENT)
    authority = Pair(pki.authority(ISSUING).private_key_pem.bytes(), root(ISSUING))
    assert refusal(server(root(ISSUING)), authority)


@EACH_VERSION
def test_sessions_of_its_clients_resume(version: int) -> None:
    context, client = server(root(ISSUING)), client_context(version, certificate=CLIENT)
    assert connect(context, client, session=ticket(context, client)).resumed


def issuing(
    begins: datetime.timedelta, ends: datetime.timedelta, key: ec.EllipticCurvePrivateKey | None = None
) -> bytes:
    """A certificate like that of the issuing authority, with other dates, or another key."""
    like = x509.load_pem_x509_certificate(root(ISSUING))
    signer = load_pem_private_key(pki.authority("clients").private_key_pem.bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    public = like.public_key() if key is None else key.public_key()
    builder = x509.CertificateBuilder(like.issuer, like.subject, public, 1, now + begins, now + ends)
    for extension in like.extensions:
        if key is None or not isinstance(extension.value, x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_it_has_to_be_valid_now() -> None:
    assert refusal(server(issuing(-SEVEN_DAYS, SEVEN_DAYS)), CLIENT) == ""
    assert refusal(server(issuing(-2 * SEVEN_DAYS, -SEVEN_DAYS)), ALONE) == "certificate has expired"
    not_yet = "certificate is not yet valid or the system clock is incorrect"
    assert refusal(server(issuing(SEVEN_DAYS, 2 * SEVEN_DAYS)), ALONE) == not_yet


def test_one_of_the_same_name_with_another_key_is_another() -> None:
    impostor = issuing(-SEVEN_DAYS, SEVEN_DAYS, ec.generate_private_key(ec.SECP256R1()))
    assert refusal(server(impostor), CLIENT)


# Revocation lists


@EACH_VERSION
@pytest.mark.parametrize("more", [b"", revocations(by="clients")], ids=["its own list", "its root's too"])
def test_it_needs_a_list_of_its_own_and_none_of_its_root(version: int, more: bytes) -> None:
    bad = pki.pair("bad.example", by=ISSUING)
    strict = server(root(ISSUING), revoked=revocations(bad, by=ISSUING) + more)
    assert refusal(strict, CLIENT, version) == ""
    assert refusal(strict, bad, version) == "certificate revoked"


@pytest.mark.parametrize(
    ("revoked", "reason"),
    [
        (revocations(by="clients"), "unable to get certificate CRL"),
        (revocations(by="others"), "unable to get certificate CRL"),
        (revocations(by=ISSUING, days=-1), "CRL has expired"),
        (revocations(by=ISSUING, signed_by="others"), "CRL signature failure"),
    ],
    ids=["its root's", "another's", "expired", "forged"],
)
def test_without_a_list_that_counts_nobody_gets_in(revoked: bytes, reason: str) -> None:
    assert refusal(server(root(ISSUING), revoked=revoked), CLIENT) == reason


def test_one_that_its_root_has_revoked_is_none() -> None:
    lists = revocations(Pair(b"", root(ISSUING)), by="clients") + revocations(by=ISSUING) + revocations(by=SIBLING)
    both = server(root(ISSUING), root(SIBLING), revoked=lists)
    assert refusal(both, CLIENT)
    assert refusal(both, pki.pair("client.example", by=SIBLING)) == ""


def test_where_the_root_is_there_too_its_list_is_needed_and_heeded() -> None:
    own, above = revocations(by=ISSUING), revocations(by="clients")
    together = root(ISSUING), root("clients"), root("partners/issuing")
    assert refusal(server(*together, revoked=own + above), CLIENT) == ""
    assert refusal(server(*together, revoked=own), CLIENT) == "unable to get certificate CRL"
    revoking = revocations(Pair(b"", root(ISSUING)), by="clients")
    assert refusal(server(*together, revoked=own + revoking), CLIENT) == "certificate revoked"


def test_a_list_is_needed_of_each_authority_up_to_it() -> None:
    client = pki.pair("client.example", by=DEEPER)
    assert refusal(server(root(ISSUING), revoked=revocations(by=DEEPER)), client) == "unable to get certificate CRL"
    assert refusal(server(root(ISSUING), revoked=revocations(by=ISSUING)), client) == "unable to get certificate CRL"
    assert refusal(server(root(ISSUING), revoked=revocations(by=DEEPER) + revocations(by=ISSUING)), client) == ""
