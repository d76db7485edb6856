"""What the application is told about a session, whatever the client put into it."""

from __future__ import annotations

import datetime
import functools
import hashlib
import tempfile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL, crypto

from s6tls.tls import context, report
from s6tls.tls.material import SESSION_VARIABLES, Options
from s6tls.tls.pump import Pump
from s6tls.ucspi import reply
from tests.tls import pki
from tests.tls.memory import NAMES, VERSIONS, Client, client_context, shake_hands

OFTEN = settings(max_examples=100, deadline=None)
PLACE = "PLACEHOLDER" * 5
UTF8 = 0x0C
OTHER_TAGS = (0x13, 0x14, 0x16, 0x1C, 0x1E)


@functools.cache
def server_context() -> SSL.Context:
    options = Options(client_certificate="optional")
    return context.build(pki.material(default=pki.pair(), trusted=(pki.root("clients"),)), options)


@functools.cache
def client_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def told(
    certificate: bytes = b"", server_name: bytes | None = None, version: int = SSL.TLS1_3_VERSION
) -> dict[bytes, bytes]:
    """Hold a session and return what the application is told about it."""
    client = client_context(version)
    if certificate:
        client.use_privatekey(client_key())
        with tempfile.NamedTemporaryFile() as file:  # which OpenSSL reads: it takes more than `cryptography` does
            file.write(certificate)
            file.flush()
            client.use_certificate_file(file.name, crypto.FILETYPE_ASN1)
    pump = Pump(server_context())
    shake_hands(pump, Client(client, server_name))
    notification = report.notification(pump)
    assert len(notification) <= reply.LARGEST and notification.endswith(b"\0\0")
    return reply.parse(notification, SESSION_VARIABLES)


def issue(subject: x509.Name) -> bytes:
    """A client's certificate, by our authority, DER."""
    authority = pki.authority("clients")
    key = load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.load_pem_x509_certificate(pki.root("clients")).subject)
        .public_key(client_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def issue_with_raw_subject(value: bytes, tag: int = UTF8) -> bytes:
    """A certificate whose organization is these bytes, said to be text of some kind, whether they are or not."""
    template = x509.load_der_x509_certificate(issue(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, PLACE)])))
    padded = (value + b"." * len(PLACE))[: len(PLACE)]
    start = bytes((UTF8, len(PLACE)))
    signed = template.tbs_certificate_bytes.replace(start + PLACE.encode(), bytes((tag, len(PLACE))) + padded)
    key = load_pem_private_key(pki.authority("clients").private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    return der(0x30, signed + algorithm + der(0x03, b"\0" + signature))


def der(tag: int, contents: bytes) -> bytes:
    length = len(contents)
    if length < 128:
        return bytes((tag, length)) + contents
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + contents


def assert_harmless(variables: dict[bytes, bytes]) -> None:
    assert set(variables) <= set(SESSION_VARIABLES)
    assert all(value and b"\0" not in value and len(value) <= 16384 for value in variables.values())


@pytest.mark.parametrize("version", VERSIONS, ids=NAMES.get)
def test_a_plain_session_has_a_protocol_and_a_cipher_and_nothing_else(version: int) -> None:
    variables = told(version=version)
    assert set(variables) == {b"SSL_PROTOCOL", b"SSL_CIPHER"}
    assert variables[b"SSL_PROTOCOL"] == NAMES[version].encode()
    assert variables[b"SSL_CIPHER"] in (b"TLS_AES_256_GCM_SHA384", b"ECDHE-ECDSA-AES256-GCM-SHA384")


@pytest.mark.parametrize("version", VERSIONS, ids=NAMES.get)
def test_server_name_and_client_certificate_are_told(version: int) -> None:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ünïcode, Inc."), x509.NameAttribute(NameOID.COMMON_NAME, "me")]
    )
    certificate = issue(subject)
    variables = told(certificate, b"www.example.com", version)
    assert variables[b"SSL_TLS_SNI_SERVERNAME"] == b"www.example.com"
    assert variables[b"SSL_PEER_CERT_HASH"] == b"SHA256:" + hashlib.sha256(certificate).hexdigest().encode()
    assert variables[b"SSL_PEER_CERT_SUBJECT"] == "CN=me,O=Ünïcode\\, Inc.".encode()


@OFTEN
@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name))
def test_any_server_name_is_told_as_it_is(name: bytes) -> None:
    variables = told(server_name=name)
    assert_harmless(variables)
    assert variables[b"SSL_TLS_SNI_SERVERNAME"] == name


@OFTEN
@given(st.text(min_size=1, max_size=64).filter(lambda text: len(text.encode("utf-8", "replace")) <= 64))
def test_any_subject_that_is_text_is_told_without_harm(text: str) -> None:
    try:
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)])
    except (ValueError, UnicodeError):
        return
    variables = told(issue(subject))
    assert_harmless(variables)
    assert variables[b"SSL_PEER_CERT_SUBJECT"].startswith(b"O=")


@OFTEN
@given(st.binary(max_size=len(PLACE)), st.sampled_from((UTF8, *OTHER_TAGS)))
def test_any_subject_at_all_is_told_without_harm_or_not_at_all(value: bytes, tag: int) -> None:
    certificate = issue_with_raw_subject(value, tag)
    try:
        variables = told(certificate)
    except SSL.Error:  # not even the client can load it
        return
    assert_harmless(variables)
    assert variables[b"SSL_PEER_CERT_HASH"] == b"SHA256:" + hashlib.sha256(certificate).hexdigest().encode()


def test_a_huge_subject_is_cut() -> None:
    names = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60) for _ in range(350)]
    variables = told(issue(x509.Name(names)))
    assert_harmless(variables)
    assert len(variables[b"SSL_PEER_CERT_SUBJECT"]) == 16384


def test_a_subject_s_nul_is_written_as_rfc_4514_says() -> None:
    variables = told(issue_with_raw_subject(b"admin\0"))
    assert variables[b"SSL_PEER_CERT_SUBJECT"].startswith(b"O=admin\\00.")


# Reading what an engine says: it may have been taken over


@OFTEN
@given(st.binary(max_size=300))
def test_any_bytes_are_known_names_without_nul_or_an_error(data: bytes) -> None:
    for notification in (data, data + b"\0\0", b"SSL_CIPHER=" + data + b"\0\0"):
        try:
            found = reply.parse(notification, SESSION_VARIABLES)
        except ValueError:
            continue
        assert set(found) <= set(SESSION_VARIABLES)
        assert all(b"\0" not in value for value in found.values())


@pytest.mark.parametrize(
    "notification",
    [
        b"",
        b"\0",
        b"SSL_CIPHER=x",
        b"SSL_CIPHER=x\0",
        b"SSL_CIPHER\0\0",
        b"LD_PRELOAD=/tmp/x.so\0\0",
        b"SSL_CIPHER=x\0PATH=/tmp\0\0",
        b"SSL_CIPHER=" + b"x" * 65536 + b"\0\0",
        b"ssl_cipher=x\0\0",
    ],
    ids=range(9),
)
def test_what_is_no_notification_is_refused(notification: bytes) -> None:
    with pytest.raises(ValueError, match="malformed reply"):
        reply.parse(notification, SESSION_VARIABLES)


@OFTEN
@given(st.dictionaries(st.sampled_from(SESSION_VARIABLES), st.binary(min_size=1).filter(lambda v: b"\0" not in v)))
def test_a_notification_is_read_as_it_was_written(variables: dict[bytes, bytes]) -> None:
    assert reply.parse(reply.encode(variables), SESSION_VARIABLES) == variables
