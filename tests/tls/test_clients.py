"""Whose certificates are good: revocation lists, what runs out, why a client is refused.  And which protocols."""

from __future__ import annotations

import datetime
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from s6tls.tls.admission import Admission
from s6tls.tls.context import BadConfiguration, build
from s6tls.tls.material import Options
from s6tls.tls.pump import Pump, TLSFailure
from tests.tls import pki
from tests.tls.memory import NAMES, VERSIONS, Client, client_context, drain, shake_hands
from tests.tls.pki import Pair, revocations

MANDATORY = Options(client_certificate="mandatory")
OPTIONAL = Options(client_certificate="optional")
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS, ids=NAMES.get)
GOOD = pki.pair("good.example", by="clients")
BAD = pki.pair("bad.example", by="clients")
LISTED = revocations(BAD, by="clients")


def server(*trusted: str, revoked: bytes = b"", options: Options = MANDATORY) -> SSL.Context:
    roots = tuple(pki.root(name) for name in trusted or ("clients",))
    return build(pki.material(default=pki.pair(), trusted=roots, revoked=revoked), options)


def connect(server: SSL.Context, client: SSL.Context, session: SSL.Session | None = None) -> Client:
    """Hold a session, and return the client's end of it.  Raises TLSFailure."""
    talking = Client(client, session=session)
    shake_hands(Pump(server), talking)
    return talking


def objection(server: SSL.Context, certificate: Pair, version: int = SSL.TLS1_3_VERSION) -> str:
    """Return why a client with this certificate is refused."""
    with pytest.raises(TLSFailure) as failure:
        connect(server, client_context(version, certificate=certificate))
    assert failure.value.during_handshake
    return str(failure.value)


def ticket(server: SSL.Context, client: SSL.Context) -> SSL.Session:
    connection = connect(server, client).connection
    session = connection.get_session()
    connection.shutdown()  # OpenSSL does not resume a session that was not ended
    assert session is not None
    return session


def issue(name: str, until: datetime.datetime) -> Pair:
    issued = pki.authority("clients").issue_cert(name, not_after=until)
    return Pair(issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())


# Revocation lists


@EACH_VERSION
@pytest.mark.parametrize("der", [False, True], ids=["PEM", "DER"])
@pytest.mark.parametrize("options", [MANDATORY, OPTIONAL], ids=["mandatory", "optional"])
def test_a_revoked_certificate_is_refused_and_the_others_are_not(options: Options, der: bool, version: int) -> None:
    strict = server(revoked=revocations(BAD, by="clients", der=der), options=options)
    connect(strict, client_context(version, certificate=GOOD))
    assert objection(strict, BAD, version) == "certificate verify failed: cert revoked"


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
        (revocations(by="clients", days=-1), "crl has expired"),
        (revocations(by="others"), "unable to get crl"),
        (revocations(by="clients", signed_by="others"), "crl signature failure"),
    ],
    ids=["expired", "of another authority", "forged"],
)
def test_no_list_that_counts_lets_nobody_in(revoked: bytes, reason: str) -> None:
    assert objection(server(revoked=revoked), GOOD).endswith(f"certificate verify failed: {reason}")


def test_each_authority_needs_a_list() -> None:
    both = server("clients", "partners", revoked=LISTED + b"\n# and\n" + revocations(by="partners"))
    one = server("clients", "partners", revoked=LISTED)
    partner = pki.pair("partner.example", by="partners")
    connect(both, client_context(certificate=GOOD))
    connect(both, client_context(certificate=partner))
    assert objection(both, BAD).endswith("cert revoked")
    connect(one, client_context(certificate=GOOD))
    assert objection(one, partner).endswith("unable to get crl")


def test_of_an_old_list_and_a_new_one_the_new_one_counts() -> None:
    for revoked in (LISTED + revocations(by="clients", days=-1), revocations(by="clients", days=-1) + LISTED):
        connect(server(revoked=revoked), client_context(certificate=GOOD))
        assert objection(server(revoked=revoked), BAD).endswith("cert revoked")


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
    with pytest.raises(BadConfiguration, match=r"^unable to read CRL /crl: .") as error:
        server(revoked=revoked)
    assert str(error.value).isprintable() and len(str(error.value)) < 300


def test_a_broken_authority_is_named() -> None:
    broken = pki.material(default=pki.pair(), trusted=(pki.root(), b"garbage"))
    with pytest.raises(BadConfiguration, match=r"^unable to read CA /cas/1: ."):
        build(broken, MANDATORY)


def test_no_authority_at_all_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="no CA in CADIR"):
        build(pki.material(default=pki.pair()), OPTIONAL)


# Reasons


@EACH_VERSION
def test_the_reason_belongs_to_the_session_that_failed(version: int) -> None:
    strict = server(revoked=LISTED)
    for _ in range(2):
        assert objection(strict, BAD, version).endswith("cert revoked")
        stranger = objection(strict, pki.pair("client.example", by="strangers"), version)
        assert stranger == "certificate verify failed: unable to get issuer cert locally"
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
    assert objection(server(), pair) == "certificate verify failed: invalid purpose"


def test_more_authorities_than_a_client_may_want_to_hear_of_are_not_told() -> None:
    roots = b"".join(
        pki.self_signed(key, x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"{number:060}")])).public_bytes(
            Encoding.PEM
        )
        for key in [ec.generate_private_key(ec.SECP256R1())]
        for number in range(300)
    )
    many = build(pki.material(default=pki.pair(), trusted=(pki.root("clients"), roots)), MANDATORY)
    assert connect(many, client_context(certificate=GOOD)).connection.get_client_ca_list() == []


# What has run out since a ticket was issued


@EACH_VERSION
@pytest.mark.parametrize("what", ["cert", "crl"])
def test_a_client_does_not_resume_when_its_certificate_or_the_list_has_expired(
    version: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(hours=1)
    client = client_context(version, certificate=issue("short.example", end) if what == "cert" else GOOD)
    strict = server(revoked=revocations(by="clients", end=end) if what == "crl" else b"")
    held, spare = ticket(strict, client), ticket(strict, client)
    assert connect(strict, client, spare).resumed
    store = strict.get_cert_store()
    assert store is not None
    store.set_time(end + datetime.timedelta(seconds=1))  # the library's clock; the next is ours
    monkeypatch.setattr(time, "time", lambda: end.timestamp() + 1)
    with pytest.raises(TLSFailure, match=rf"^certificate verify failed: {what} has expired$") as failure:
        connect(strict, client, held)
    assert failure.value.during_handshake


def test_tickets_count_until_the_first_of_what_is_in_force_runs_out() -> None:
    root = x509.load_pem_x509_certificate(pki.root("clients"))
    strict = server()
    assert strict.get_app_data() == Admission(until=root.not_valid_after_utc.timestamp())
    lists = revocations(by="clients", days=-1) + revocations(by="clients", days=5) + revocations(by="others", days=7)
    until = server(revoked=lists).get_app_data().until
    assert abs(until - time.time() - 5 * 24 * 3600) < 60
    newer = lists + revocations(by="clients", days=9)
    assert server(revoked=newer).get_app_data().until > until + 24 * 3600


# Names that are not served


@EACH_VERSION
def test_a_ticket_opens_no_name_that_is_not_served(version: int) -> None:
    named = build(pki.material((b"a.example", pki.pair("a.example"))), Options(sni_level=2))
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
        elsewhere.connection.shutdown()  # OpenSSL forgets a session that is left without


def test_a_star_alone_covers_names_of_one_label() -> None:
    pair = pki.pair("*.example")
    named = build(pki.material((b"*", pair)), Options(sni_level=2))
    shake_hands(Pump(named), Client(client_context(), b"localhost"))
    for asked in (b"a.example", None):
        with pytest.raises(TLSFailure):
            shake_hands(Pump(named), Client(client_context(), asked))


# Protocols (ALPN)

H2_FIRST = Options(alpn=(b"h2", b"http/1.1"))


def agreed(options: Options, *offered: bytes, version: int = SSL.TLS1_3_VERSION) -> bytes:
    """Return the protocol that server and client both take to be agreed on."""
    client = client_context(version)
    if offered:
        client.set_alpn_protos(list(offered))
    pump = Pump(build(pki.material((b"server.example", pki.pair()), default=pki.pair("x.example")), options))
    talking = Client(client)
    shake_hands(pump, talking)
    assert talking.connection.get_alpn_proto_negotiated() == pump.connection.get_alpn_proto_negotiated()
    return pump.connection.get_alpn_proto_negotiated()


@EACH_VERSION
@pytest.mark.parametrize("sni_level", [0, 1])
def test_the_first_of_our_protocols_that_the_client_has_is_agreed_on(version: int, sni_level: int) -> None:
    options = Options(alpn=H2_FIRST.alpn, sni_level=sni_level)
    assert agreed(options, b"http/1.1", b"h2", version=version) == b"h2"
    assert agreed(options, b"http/1.0", b"http/1.1", version=version) == b"http/1.1"


def test_who_offers_no_protocol_is_served_without() -> None:
    assert agreed(H2_FIRST) == b""


def test_without_protocols_of_our_own_what_a_client_offers_is_ignored() -> None:
    assert agreed(Options(), b"h2") == b""


@EACH_VERSION
def test_who_offers_only_other_protocols_is_told_so_and_refused(version: int) -> None:
    client = client_context(version)
    client.set_alpn_protos([b"smtp"])
    strict = build(pki.material(default=pki.pair()), H2_FIRST)
    for _ in range(2):
        pump, talking = Pump(strict), Client(client)
        with pytest.raises(TLSFailure, match=r"^no application protocol in common$") as failure:
            shake_hands(pump, talking)
        assert failure.value.during_handshake
        with pytest.raises(SSL.Error, match="no application protocol"):
            talking.hear(drain(pump))
        shake_hands(Pump(strict), Client(client_context(version)))  # and nothing of it is left for the next
