"""Whose certificates are good: authorities, revocation lists, and why a client is refused."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from s6tls.tls.context import BadConfiguration, build
from s6tls.tls.credentials import SessionOptions
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
    drain,
    shake_hands,
)

GOOD = pki.pair("good.example", by="clients")
BAD = pki.pair("bad.example", by="clients")
LISTED = revocations(BAD, by="clients")


def server(*trusted: str, revoked: bytes = b"", options: SessionOptions = MANDATORY) -> SSL.Context:
    roots = tuple(pki.root(name) for name in trusted or ("clients",))
    return build(pki.credentials(default=pki.pair(), trusted=roots, revoked=revoked), options)


def rejection_reason(server: SSL.Context, certificate: Pair, version: int = SSL.TLS1_3_VERSION) -> str:
    """Return why a client with this certificate is refused."""
    with pytest.raises(TLSFailure) as failure:
        connect(server, client_context(version, certificate=certificate))
    assert failure.value.during_handshake
    return str(failure.value)


# Authorities


@EACH_VERSION
@pytest.mark.parametrize("options", [MANDATORY, OPTIONAL], ids=["mandatory", "optional"])
def test_a_client_certificate_of_the_right_authority_is_welcome(options: SessionOptions, version: int) -> None:
    server = build(pki.credentials(default=pki.pair(), trusted=(pki.root("clients"),)), options)
    connect(server, client_context(version, certificate=pki.pair("client.example", by="clients")))


@EACH_VERSION
def test_a_client_without_certificate_is_welcome_only_where_it_is_optional(version: int) -> None:
    credentials = pki.credentials(default=pki.pair(), trusted=(pki.root("clients"),))
    connect(build(credentials, OPTIONAL), client_context(version))
    with pytest.raises(TLSFailure, match="peer did not return a certificate") as failure:
        connect(build(credentials, MANDATORY), client_context(version))
    assert failure.value.during_handshake


@EACH_VERSION
@pytest.mark.parametrize("options", [MANDATORY, OPTIONAL], ids=["mandatory", "optional"])
def test_a_client_certificate_of_another_authority_is_refused_even_where_it_is_optional(
    options: SessionOptions, version: int
) -> None:
    server = build(pki.credentials(default=pki.pair(), trusted=(pki.root("clients"),)), options)
    with pytest.raises(TLSFailure, match="certificate verify failed") as failure:
        connect(server, client_context(version, certificate=pki.pair("client.example", by="strangers")))
    assert failure.value.during_handshake


def test_an_expired_client_certificate_is_refused() -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    issued = pki.authority("clients").issue_cert("client.example", not_after=yesterday)
    expired = Pair(issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    server = build(pki.credentials(default=pki.pair(), trusted=(pki.root("clients"),)), MANDATORY)
    with pytest.raises(TLSFailure, match="certificate verify failed"):
        connect(server, client_context(certificate=expired))


def test_the_client_is_told_each_acceptable_authority_once() -> None:
    trusted = (pki.root("clients"), pki.root("partners") + pki.root("clients"))
    client = connect(build(pki.credentials(default=pki.pair(), trusted=trusted), OPTIONAL))
    assert len(client.connection.get_client_ca_list()) == 2


def test_each_of_several_authorities_is_trusted() -> None:
    trusted = (pki.root("clients") + pki.root("partners"), pki.root("others"))
    server = build(pki.credentials(default=pki.pair(), trusted=trusted), MANDATORY)
    for by in ("clients", "partners", "others"):
        connect(server, client_context(certificate=pki.pair("client.example", by=by)))


def test_without_client_certificates_none_is_asked_for() -> None:
    client = connect(build(pki.credentials(default=pki.pair()), DEFAULT))
    assert client.connection.get_client_ca_list() == []


# Revocation lists


@EACH_VERSION
@pytest.mark.parametrize("der", [False, True], ids=["PEM", "DER"])
@pytest.mark.parametrize("options", [MANDATORY, OPTIONAL], ids=["mandatory", "optional"])
def test_a_revoked_certificate_is_refused_and_the_others_are_not(
    options: SessionOptions, der: bool, version: int
) -> None:
    strict = server(revoked=revocations(BAD, by="clients", der=der), options=options)
    connect(strict, client_context(version, certificate=GOOD))
    assert rejection_reason(strict, BAD, version) == "certificate verify failed: certificate revoked"


@EACH_VERSION
def test_the_client_learns_that_its_certificate_is_revoked(version: int) -> None:
    pump, client = Pump(server(revoked=LISTED)), Client(client_context(version, certificate=BAD))
    with pytest.raises(TLSFailure):
        shake_hands(pump, client)
    with pytest.raises(SSL.Error, match="certificate revoked"):
        client.hear(drain(pump))


def test_a_client_without_certificate_has_none_that_could_be_revoked() -> None:
    connect(server(revoked=LISTED, options=OPTIONAL), client_context())


@pytest.mark.parametrize(
    ("revoked", "reason"),
    [
        (revocations(by="clients", days=-1), "CRL has expired"),
        (revocations(by="others"), "unable to get certificate CRL"),
        (revocations(by="clients", signed_by="others"), "CRL signature failure"),
    ],
    ids=["expired", "of another authority", "forged"],
)
def test_no_list_that_counts_lets_nobody_in(revoked: bytes, reason: str) -> None:
    assert rejection_reason(server(revoked=revoked), GOOD).endswith(f"certificate verify failed: {reason}")


def test_each_authority_needs_a_list() -> None:
    both = server("clients", "partners", revoked=LISTED + b"\n# and\n" + revocations(by="partners"))
    one = server("clients", "partners", revoked=LISTED)
    partner = pki.pair("partner.example", by="partners")
    connect(both, client_context(certificate=GOOD))
    connect(both, client_context(certificate=partner))
    assert rejection_reason(both, BAD).endswith("certificate revoked")
    connect(one, client_context(certificate=GOOD))
    assert rejection_reason(one, partner).endswith("unable to get certificate CRL")


def test_of_an_old_list_and_a_new_one_the_new_one_counts() -> None:
    for revoked in (LISTED + revocations(by="clients", days=-1), revocations(by="clients", days=-1) + LISTED):
        connect(server(revoked=revoked), client_context(certificate=GOOD))
        assert rejection_reason(server(revoked=revoked), BAD).endswith("certificate revoked")


@pytest.mark.parametrize(
    "revoked",
    [
        b"garbage\xff\0",
        pki.root("clients"),
        LISTED[: len(LISTED) // 2],
        LISTED + LISTED[: len(LISTED) // 2],
        LISTED.replace(LISTED[40:80], b"A" * 40),
        revocations(by="clients", der=True)[:-1],
        b"\n",
    ],
    ids=["garbage", "a certificate", "half", "one and a half", "damaged", "cut DER", "a line end"],
)
def test_a_broken_file_of_lists_is_refused_by_name(revoked: bytes) -> None:
    with pytest.raises(BadConfiguration, match=r"^unable to read CRLFILE /crl: .") as error:
        server(revoked=revoked)
    assert str(error.value).isprintable() and len(str(error.value)) < 300


def test_a_broken_authority_is_named() -> None:
    broken = pki.credentials(default=pki.pair(), trusted=(pki.root(), b"garbage"))
    with pytest.raises(BadConfiguration, match=r"^unable to read CADIR /cas/1: ."):
        build(broken, MANDATORY)


def test_no_authority_at_all_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="no CA in CADIR"):
        build(pki.credentials(default=pki.pair()), OPTIONAL)


# Reasons


@EACH_VERSION
def test_the_reason_belongs_to_the_session_that_failed(version: int) -> None:
    strict = server(revoked=LISTED)
    for _ in range(2):
        assert rejection_reason(strict, BAD, version).endswith("certificate revoked")
        stranger = rejection_reason(strict, pki.pair("client.example", by="strangers"), version)
        assert stranger == "certificate verify failed: unable to get local issuer certificate"
        connect(strict, client_context(version, certificate=GOOD))


def test_a_certificate_for_servers_only_is_no_client_s() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server only")])
    signer = load_pem_private_key(pki.authority("clients").private_key_pem.bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.load_pem_x509_certificate(pki.root("clients")).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pair = Pair(pki.key_bytes(key), certificate.public_bytes(Encoding.PEM))
    assert rejection_reason(server(), pair) == "certificate verify failed: unsuitable certificate purpose"


def test_more_authorities_than_a_client_may_want_to_hear_of_are_not_told() -> None:
    roots = b"".join(
        pki.self_signed(key, x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"{number:060}")])).public_bytes(
            Encoding.PEM
        )
        for key in [ec.generate_private_key(ec.SECP256R1())]
        for number in range(300)
    )
    many = build(pki.credentials(default=pki.pair(), trusted=(pki.root("clients"), roots)), MANDATORY)
    assert connect(many, client_context(certificate=GOOD)).connection.get_client_ca_list() == []
