"""What the application is told about a session, whatever the client put into it."""

from __future__ import annotations

import datetime
import functools
import hashlib
import ipaddress
import re
import tempfile
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL, crypto

from s6tls.accessrules.identifiers import normalised
from s6tls.helper import reply
from s6tls.tls import context, variables
from s6tls.tls.credentials import SESSION_VARIABLES, ClientCertificate, SessionOptions
from s6tls.tls.pump import Pump, TLSFailure
from tests.support import pki
from tests.support.tls.memory import NAMES, VERSIONS, Client, client_context, shake_hands

OFTEN = settings(max_examples=100)
PLACE = "PLACEHOLDER" * 5
UTF8 = 0x0C
DNS = 0x82
NAME_TAGS = (0x81, DNS, 0x86, 0x87, 0x88, 0xA4, 0xA0)
OTHER_TAGS = (0x13, 0x14, 0x16, 0x1C, 0x1E)


@functools.cache
def server_context() -> SSL.Context:
    options = SessionOptions(client_certificate=ClientCertificate.OPTIONAL)
    return context.build(pki.credentials(default=pki.pair(), trusted=(pki.root("clients"),)), options)


@functools.cache
def client_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def told(
    certificate: bytes = b"",
    server_name: bytes | None = None,
    version: int = SSL.TLS1_3_VERSION,
    server: SSL.Context | None = None,
) -> dict[bytes, bytes]:
    """Hold a session and return what the application is told about it."""
    client = client_context(version)
    if certificate:
        client.use_privatekey(client_key())
        with tempfile.NamedTemporaryFile() as file:  # which OpenSSL reads: it takes more than `cryptography` does
            file.write(certificate)
            file.flush()
            client.use_certificate_file(file.name, crypto.FILETYPE_ASN1)
    pump = Pump(server or server_context())
    shake_hands(pump, Client(client, server_name))
    notification = variables.notification(pump)
    assert len(notification) <= reply.LARGEST and notification.endswith(b"\0\0")
    return reply.parse(notification, SESSION_VARIABLES)


ME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])


def authority_key() -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pki.authority("clients").private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def issue(
    subject: x509.Name = ME,
    names: Sequence[x509.GeneralName] = (),
    issuer: x509.Name | None = None,
    until: datetime.datetime | None = None,
    serial: int = 0,
) -> bytes:
    """A client's certificate, by our authority, DER."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or x509.load_pem_x509_certificate(pki.root("clients")).subject)
        .public_key(client_key().public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(until or now + datetime.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def issue_with_raw_subject(value: bytes, tag: int = UTF8) -> bytes:
    """A certificate whose organization is these bytes, said to be text of some kind, whether they are or not."""
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, PLACE)])
    return with_raw_value(issue(subject), UTF8, tag, value)


def issue_with_raw_names(value: bytes, tag: int) -> bytes:
    """A certificate with three alternative names, the second of which is these bytes, said to be of some kind."""
    names = [x509.DNSName("before.example"), x509.DNSName(PLACE), x509.DNSName("after.example")]
    return with_raw_value(issue(names=names), DNS, tag, value)


def with_raw_value(template: bytes, old_tag: int, tag: int, value: bytes) -> bytes:
    """Put these bytes in the place of PLACE in a certificate, and sign it again."""
    padded = (value + b"." * len(PLACE))[: len(PLACE)]
    return with_bytes(template, bytes((old_tag, len(PLACE))) + PLACE.encode(), bytes((tag, len(PLACE))) + padded)


def with_bytes(template: bytes, old: bytes, new: bytes) -> bytes:
    """Put other bytes into a certificate, as many, and sign it again."""
    signed = x509.load_der_x509_certificate(template).tbs_certificate_bytes.replace(old, new)
    signature = authority_key().sign(signed, ec.ECDSA(hashes.SHA256()))
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
def test_a_server_name_that_is_none_is_left_out(name: bytes) -> None:
    variables = told(server_name=name)
    assert_harmless(variables)
    assert variables.get(b"SSL_TLS_SNI_SERVERNAME") == (name if normalised(name) is not None else None)


@pytest.mark.parametrize(
    "name", [b"a\nB=c", b"../../etc/passwd", b"$(id)", b"\x1b[2J", b"*", b"\xc3\xbc.example", b"1.2.3.4"]
)
def test_these_are_no_server_names(name: bytes) -> None:
    assert b"SSL_TLS_SNI_SERVERNAME" not in told(server_name=name)


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


def test_a_subject_s_control_characters_are_written_as_rfc_4514_says() -> None:
    variables = told(issue_with_raw_subject(b'a\0b\nc"\x7f,\xc2\x85\xe2\x80\xa8'))
    assert variables[b"SSL_PEER_CERT_SUBJECT"].startswith(b'O=a\\00b\\0Ac\\"\\7F\\,\\C2\\85\\E2\\80\\A8.')


def test_issuer_serial_and_end_are_told() -> None:
    until = datetime.datetime(2048, 2, 29, 12, 34, 56, tzinfo=datetime.UTC)
    variables = told(issue(until=until, serial=0xABC))
    issuer = x509.load_pem_x509_certificate(pki.root("clients")).subject
    assert variables[b"SSL_PEER_CERT_ISSUER"] == issuer.rfc4514_string().encode()
    assert variables[b"SSL_PEER_CERT_SERIAL"] == b"0ABC"
    assert variables[b"SSL_PEER_CERT_NOTAFTER"] == b"2048-02-29T12:34:56Z"
    assert b"SSL_PEER_CERT_SAN" not in variables


def test_a_serial_number_may_have_twenty_bytes() -> None:
    assert told(issue(serial=2**159 - 1))[b"SSL_PEER_CERT_SERIAL"] == b"7F" + b"FF" * 19


def test_a_negative_serial_number_is_told_without_a_warning_or_not_at_all() -> None:
    number = bytes.fromhex("0102030405060708")
    template = issue(serial=int.from_bytes(number, "big"))
    variables = told(with_bytes(template, b"\x02\x08" + number, b"\x02\x08\x81" + number[1:]))
    assert variables.get(b"SSL_PEER_CERT_SERIAL", b"") in (b"", b"-7EFDFCFBFAF9F8F8")
    assert variables[b"SSL_PEER_CERT_HASH"].startswith(b"SHA256:")


def test_alternative_names_are_told_with_their_kinds() -> None:
    names = [
        x509.DNSName("*.example"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.RFC822Name("me@example.com"),
        x509.UniformResourceIdentifier("spiffe://example/a?b=c,d"),
        x509.DirectoryName(ME),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    ]
    assert told(issue(names=names))[b"SSL_PEER_CERT_SAN"] == (
        rb"DNS:*.example,IP:192.0.2.1,IP:2001:db8::1,email:me@example.com,URI:spiffe://example/a?b=c\,d"
    )


def unescaped(value: bytes) -> list[str]:
    """Read a list of alternative names, as the manual says that it is written."""
    entries = re.findall(rb"(?:[^\\,]|\\[0-9A-F]{2}|\\[\\,])+", value)
    assert b",".join(entries) == value
    code = re.compile(rb"\\([0-9A-F]{2}|.)")
    return [
        code.sub(lambda at: bytes.fromhex(at[1].decode()) if len(at[1]) == 2 else at[1], entry).decode()
        for entry in entries
    ]


@OFTEN
@given(st.lists(st.text(st.characters(codec="ascii"), max_size=20), min_size=1, max_size=5))
def test_no_alternative_name_can_add_another(texts: list[str]) -> None:
    variables = told(issue(names=[x509.DNSName(text) for text in texts]))
    assert_harmless(variables)
    assert unescaped(variables[b"SSL_PEER_CERT_SAN"]) == [f"DNS:{text}" for text in texts]
    assert not re.search(rb"[\x00-\x1f]", variables[b"SSL_PEER_CERT_SAN"])


@OFTEN
@given(st.binary(max_size=len(PLACE)), st.sampled_from(NAME_TAGS))
def test_alternative_names_of_any_bytes_are_told_without_harm_or_not_at_all(value: bytes, tag: int) -> None:
    try:
        variables = told(issue_with_raw_names(value, tag))
    except (SSL.Error, TLSFailure):  # not even OpenSSL can read it
        return
    assert_harmless(variables)
    if b"SSL_PEER_CERT_SAN" in variables:
        told_of = unescaped(variables[b"SSL_PEER_CERT_SAN"])
        assert (told_of[0], told_of[-1]) == ("DNS:before.example", "DNS:after.example") and len(told_of) <= 3


def units(count: int) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60) for _ in range(count)])


def test_a_huge_subject_is_not_told_because_half_a_name_is_another() -> None:
    certificate = issue(units(900))
    assert len(certificate) > 64000
    variables = told(certificate)
    assert_harmless(variables)
    assert b"SSL_PEER_CERT_SUBJECT" not in variables
    assert variables[b"SSL_PEER_CERT_HASH"] == b"SHA256:" + hashlib.sha256(certificate).hexdigest().encode()


def test_a_certificate_too_large_for_a_ticket_is_refused() -> None:
    with pytest.raises(TLSFailure) as failure:
        told(issue(units(940)))
    assert failure.value.during_handshake


def test_of_thousands_of_alternative_names_as_many_as_there_is_room_for_are_told_whole() -> None:
    names = [f"n{number}.example" for number in range(4000)]
    variables = told(issue(names=[x509.DNSName(name) for name in names]))
    assert_harmless(variables)
    entries = variables[b"SSL_PEER_CERT_SAN"].decode().split(",")
    assert entries == [f"DNS:{name}" for name in names[: len(entries)]] and len(entries) > 900


def test_the_most_that_can_be_told_fits_into_a_reply() -> None:
    """`told` asserts it."""
    issuer, subject = units(250), units(251)  # the same name would make the client its own issuer
    root = (
        x509.CertificateBuilder()
        .subject_name(issuer)
        .issuer_name(issuer)
        .public_key(authority_key().public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2048, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key(), hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    server = context.build(
        pki.credentials(default=pki.pair(), trusted=(root,)),
        SessionOptions(client_certificate=ClientCertificate.MANDATORY),
    )
    names = [x509.DNSName(f"n{number}.example") for number in range(2000)]
    variables = told(issue(subject, names, issuer), b"s" * 255, server=server)
    assert_harmless(variables)
    long = (b"SSL_PEER_CERT_SUBJECT", b"SSL_PEER_CERT_ISSUER", b"SSL_PEER_CERT_SAN")
    assert all(len(variables[name]) > 15000 for name in long)


@pytest.mark.parametrize("version", VERSIONS, ids=NAMES.get)
def test_a_resumed_session_is_told_as_such_and_the_client_s_certificate_with_it(version: int) -> None:
    certificate = issue(names=[x509.DNSName("client.example")])
    client = client_context(version)
    client.use_privatekey(client_key())
    client.use_certificate(x509.load_der_x509_certificate(certificate))
    session = None
    found = []
    for _ in range(2):
        pump, talking = Pump(server_context()), Client(client, session=session)
        shake_hands(pump, talking)
        found.append(reply.parse(variables.notification(pump), SESSION_VARIABLES))
        session = talking.connection.get_session()
        talking.connection.shutdown()  # OpenSSL does not resume a session that was not ended
    first, again = found
    assert b"SSL_SESSION_REUSED" not in first and again == first | {b"SSL_SESSION_REUSED": b"1"}
    assert b"SSL_PEER_CERT_SAN" in first


# Reading what an engine says: it may have been taken over


@OFTEN
@given(st.binary(max_size=300))
@example(b"!1")
def test_any_bytes_are_known_names_without_nul_or_an_error(data: bytes) -> None:
    for notification in (data, data + b"\0\0", b"SSL_CIPHER=" + data + b"\0\0"):
        try:
            found = reply.parse(notification, SESSION_VARIABLES)
        except (ValueError, reply.RefusalReply):
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
