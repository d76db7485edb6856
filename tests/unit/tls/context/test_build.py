"""What a context accepts as key and certificate, and what it serves to whom."""

from __future__ import annotations

import functools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from s6tls.tls.context import BadConfiguration, build
from s6tls.tls.credentials import ClientCertificate, Credentials, SessionOptions, SniLevel
from s6tls.tls.pump import Pump, TLSFailure
from tests.support import pki
from tests.support.pki import Pair
from tests.support.tls.memory import (
    DEFAULT,
    EACH_VERSION,
    MANDATORY,
    NAMES,
    OPTIONAL,
    Client,
    client_context,
    connect,
    drain,
    shake_hands,
)


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@functools.cache
def dsa_key() -> dsa.DSAPrivateKey:
    return dsa.generate_private_key(1024)


def served(client: Client) -> x509.Certificate:
    certificate = client.connection.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    return certificate


def served_names(client: Client) -> list[str]:
    extension = served(client).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return extension.value.get_values_for_type(x509.DNSName)


# Keys and certificates


@pytest.mark.parametrize(
    "key",
    [
        rsa_key(),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "P-256", "P-384", "P-521", "Ed25519"],
)
@pytest.mark.parametrize("der", [False, True], ids=["PEM", "DER"])
@EACH_VERSION
def test_each_kind_of_key_serves_in_either_encoding_and_version(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, der: bool, version: int
) -> None:
    certificate = pki.self_signed(key)
    pair = Pair(pki.key_bytes(key, der), certificate.public_bytes(Encoding.DER if der else Encoding.PEM))
    client = connect(build(pki.credentials(default=pair), DEFAULT), client_context(version))
    assert served(client) == certificate
    assert client.connection.get_protocol_version_name() == NAMES[version]


@pytest.mark.parametrize("der", [False, True], ids=["PEM", "DER"])
@pytest.mark.parametrize("key", [rsa_key(), ec.generate_private_key(ec.SECP256R1())], ids=["RSA", "ECDSA"])
def test_the_older_key_formats_are_read_too(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, der: bool) -> None:
    pair = Pair(pki.key_bytes(key, der, traditional=True), pki.self_signed(key).public_bytes(Encoding.PEM))
    connect(build(pki.credentials(default=pair), DEFAULT))


def test_curve_parameters_before_the_key_are_passed_over() -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    key = ec.generate_private_key(ec.SECP256R1())
    pair = Pair(parameters + pki.key_bytes(key, traditional=True), pki.self_signed(key).public_bytes(Encoding.PEM))
    connect(build(pki.credentials(default=pair), DEFAULT))


@pytest.mark.parametrize("key_first", [True, False])
def test_key_and_certificate_may_share_a_file(key_first: bool) -> None:
    pair = pki.pair()
    both = pair.key + pair.chain if key_first else pair.chain + pair.key
    connect(build(pki.credentials(default=Pair(both, both)), DEFAULT))


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_text_around_pem_blocks_is_passed_over(ending: bytes) -> None:
    pair = pki.pair()
    noisy = Pair(
        (b"Bag Attributes: none\n" + pair.key).replace(b"\n", ending),
        (b"# the server's\n" + pair.chain + b"\n\n").replace(b"\n", ending),
    )
    connect(build(pki.credentials(default=noisy), DEFAULT))


def test_clients_get_the_intermediates_and_can_verify_up_to_the_root() -> None:
    server = build(pki.credentials(default=pki.pair_by_intermediate()), DEFAULT)
    client = connect(server, client_context(trusted=pki.root()))
    assert len(client.connection.get_peer_cert_chain(as_cryptography=True) or []) == 2


def broken() -> dict[str, tuple[Credentials, SessionOptions]]:
    good, other = pki.pair(), pki.pair("other.example")
    weak = rsa.generate_private_key(65537, 1024)
    pairs = {
        "certificate of another key": Pair(good.key, other.chain),
        "certificate of another kind of key": Pair(good.key, pki.self_signed(rsa_key()).public_bytes(Encoding.PEM)),
        "garbage for a key": Pair(b"garbage\xff\0", good.chain),
        "garbage for a certificate": Pair(good.key, b"garbage\xff\0"),
        "PEM garbage for a key": Pair(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", good.chain),
        "PEM garbage for a certificate": Pair(
            good.key, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        ),
        "half a key": Pair(good.key[: len(good.key) // 2], good.chain),
        "half a certificate": Pair(good.key, good.chain[: len(good.chain) // 2]),
        "an empty key file": Pair(b"", good.chain),
        "an empty certificate file": Pair(good.key, b""),
        "key and certificate swapped": Pair(good.chain, good.key),
        "an encrypted key": Pair(pki.key_bytes(rsa_key(), password=b"secret"), good.chain),
        "an encrypted key, older format": Pair(
            pki.key_bytes(rsa_key(), traditional=True, password=b"secret"), good.chain
        ),
        "a DSA key": pki.self_made(dsa_key()),
        "a key too short to be safe": pki.self_made(weak),
        "a broken intermediate": Pair(
            good.key, good.chain + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        ),
    }
    cases = {what: (pki.credentials(default=pair), DEFAULT) for what, pair in pairs.items()}
    cases["a broken CA file"] = pki.credentials(default=good, trusted=(b"garbage",)), MANDATORY
    cases["an empty CA file"] = pki.credentials(default=good, trusted=(b"",)), OPTIONAL
    cases["one broken CA file of two"] = pki.credentials(default=good, trusted=(pki.root(), b"garbage")), MANDATORY
    begun = b"-----BEGIN X509 CRL-----\n"
    for what, revoked in (
        ("a list begun 150,000 times, never ended", 150_000 * begun),
        ("half a list", pki.revocations()[:-30]),
    ):
        cases[what] = pki.credentials(default=good, trusted=(pki.root(),), revoked=revoked), MANDATORY
    cases["a list within a list"] = (
        pki.credentials(default=good, trusted=(pki.root(),), revoked=begun + pki.revocations()),
        MANDATORY,
    )
    garbled = pki.garbled(x509.load_pem_x509_certificate(pki.root()).public_bytes(Encoding.DER))
    cases["a CA whose name is broken"] = pki.credentials(default=good, trusted=(garbled,)), MANDATORY
    cases["a list by somebody whose name is broken"] = (
        pki.credentials(default=good, trusted=(pki.root(),), revoked=pki.garbled(pki.revocations(der=True))),
        MANDATORY,
    )
    cases["a broken pair for a name"] = (
        pki.credentials((b"a.example", Pair(good.key, other.chain)), default=good),
        SessionOptions(sni_level=SniLevel.OPTIONAL),
    )
    return cases


BROKEN = broken()


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_used_is_refused_with_one_clear_line(what: str) -> None:
    with pytest.raises(BadConfiguration) as error:
        build(*BROKEN[what])
    message = str(error.value)
    assert message.startswith("unable to ") and message.isprintable() and len(message) < 300
    assert message.partition(": ")[2]
    connect(build(pki.credentials(default=pki.pair()), DEFAULT))  # the library's error queue must be clean


def test_a_broken_pair_is_named() -> None:
    with pytest.raises(BadConfiguration, match=r" KEYFILE:a\.example "):
        build(*BROKEN["a broken pair for a name"])


# Versions and ciphers


@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION])
def test_old_versions_are_refused(version: int) -> None:
    with pytest.raises(TLSFailure, match="protocol") as failure:
        connect(
            build(pki.credentials(default=pki.pair()), DEFAULT), client_context(version, ciphers=b"ALL:@SECLEVEL=0")
        )
    assert failure.value.during_handshake


@pytest.mark.parametrize(
    "cipher", [b"ECDHE-ECDSA-AES128-SHA256", b"ECDHE-ECDSA-AES256-SHA", b"AES128-GCM-SHA256", b"AES256-SHA"]
)
def test_ciphers_without_forward_secrecy_or_authenticated_encryption_are_refused(cipher: bytes) -> None:
    server = build(pki.credentials(default=pki.pair()), DEFAULT)
    with pytest.raises(TLSFailure, match="no shared cipher"):
        connect(server, client_context(SSL.TLS1_2_VERSION, ciphers=cipher + b":@SECLEVEL=0"))


@pytest.mark.parametrize("rsa_pair", [False, True], ids=["ECDSA", "RSA"])
@pytest.mark.parametrize("family", [b"AES128-GCM-SHA256", b"AES256-GCM-SHA384", b"CHACHA20-POLY1305"])
def test_modern_ciphers_are_served(rsa_pair: bool, family: bytes) -> None:
    cipher = (b"ECDHE-RSA-" if rsa_pair else b"ECDHE-ECDSA-") + family
    server = build(pki.credentials(default=pki.pair(rsa_key=rsa_pair)), DEFAULT)
    client = connect(server, client_context(SSL.TLS1_2_VERSION, ciphers=cipher))
    assert (client.connection.get_cipher_name() or "").encode() == cipher


def test_the_server_s_order_of_preference_counts() -> None:
    server = build(pki.credentials(default=pki.pair()), DEFAULT)
    client = client_context(SSL.TLS1_2_VERSION, ciphers=b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    assert connect(server, client).connection.get_cipher_name() == "ECDHE-ECDSA-AES256-GCM-SHA384"


# Server names

NAMED = (
    (b"a.example", pki.pair("a.example")),
    (b"*.b.example", pki.pair("*.b.example")),
    (b"x.b.example", pki.pair("x.b.example")),
)


@EACH_VERSION
@pytest.mark.parametrize(
    ("asked", "gets"),
    [
        (b"a.example", "a.example"),
        (b"A.Example", "a.example"),
        (b"a.example.", "a.example"),
        (b"y.b.example", "*.b.example"),
        (b"x.b.example", "x.b.example"),
        (b"b.example", "server.example"),
        (b"z.y.b.example", "server.example"),
        (b"elsewhere.example", "server.example"),
        (None, "server.example"),
    ],
)
def test_each_server_name_gets_its_own_certificate_and_others_the_default(
    asked: bytes | None, gets: str, version: int
) -> None:
    server = build(pki.credentials(*NAMED, default=pki.pair()), SessionOptions(sni_level=SniLevel.OPTIONAL))
    assert served_names(connect(server, client_context(version), asked)) == [gets]


@EACH_VERSION
def test_without_a_default_other_names_are_refused(version: int) -> None:
    server = build(pki.credentials(*NAMED), SessionOptions(sni_level=SniLevel.MANDATORY))
    assert served_names(connect(server, client_context(version), b"a.example")) == ["a.example"]
    for asked in (b"elsewhere.example", b"b.example", None):
        with pytest.raises(TLSFailure) as failure:
            connect(server, client_context(version), asked)
        assert failure.value.during_handshake


def test_names_are_ignored_when_not_asked_to_heed_them() -> None:
    server = build(pki.credentials(default=pki.pair()), DEFAULT)
    assert served_names(connect(server, name=b"a.example")) == ["server.example"]


@EACH_VERSION
def test_a_client_certificate_is_demanded_whatever_name_is_asked_for(version: int) -> None:
    server = build(
        pki.credentials(*NAMED, default=pki.pair(), trusted=(pki.root("clients"),)),
        SessionOptions(sni_level=SniLevel.OPTIONAL, client_certificate=ClientCertificate.MANDATORY),
    )
    right = client_context(version, certificate=pki.pair("client.example", by="clients"))
    wrong = client_context(version, certificate=pki.pair("client.example", by="strangers"))
    for asked in (b"a.example", b"y.b.example", b"elsewhere.example"):
        connect(server, right, asked)
        for client in (wrong, client_context(version)):
            with pytest.raises(TLSFailure):
                connect(server, client, asked)


# Protocols (ALPN)

H2_FIRST = SessionOptions(alpn=(b"h2", b"http/1.1"))


def agreed(options: SessionOptions, *offered: bytes, version: int = SSL.TLS1_3_VERSION) -> bytes:
    """Return the protocol that server and client both take to be agreed on."""
    client = client_context(version)
    if offered:
        client.set_alpn_protos(list(offered))
    pump = Pump(build(pki.credentials((b"server.example", pki.pair()), default=pki.pair("x.example")), options))
    talking = Client(client)
    shake_hands(pump, talking)
    assert talking.connection.get_alpn_proto_negotiated() == pump.connection.application_protocol
    return pump.connection.application_protocol


@EACH_VERSION
@pytest.mark.parametrize("sni_level", [SniLevel.NONE, SniLevel.OPTIONAL])
def test_the_first_of_our_protocols_that_the_client_has_is_agreed_on(version: int, sni_level: SniLevel) -> None:
    options = SessionOptions(alpn=H2_FIRST.alpn, sni_level=sni_level)
    assert agreed(options, b"http/1.1", b"h2", version=version) == b"h2"
    assert agreed(options, b"http/1.0", b"http/1.1", version=version) == b"http/1.1"


def test_who_offers_no_protocol_is_served_without() -> None:
    assert agreed(H2_FIRST) == b""


def test_without_protocols_of_our_own_what_a_client_offers_is_ignored() -> None:
    assert agreed(SessionOptions(), b"h2") == b""


@EACH_VERSION
def test_who_offers_only_other_protocols_is_told_so_and_refused(version: int) -> None:
    client = client_context(version)
    client.set_alpn_protos([b"smtp"])
    strict = build(pki.credentials(default=pki.pair()), H2_FIRST)
    for _ in range(2):
        pump, talking = Pump(strict), Client(client)
        with pytest.raises(TLSFailure, match=r"^no application protocol$") as failure:
            shake_hands(pump, talking)
        assert failure.value.during_handshake
        with pytest.raises(SSL.Error, match="no application protocol"):
            talking.hear(drain(pump))
        shake_hands(Pump(strict), Client(client_context(version)))  # and nothing of it is left for the next
