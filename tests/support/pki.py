"""Keys, certificates and the files they are in, made for the tests by tools that are not ours."""

from __future__ import annotations

import datetime
import functools
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from s6tls.posix.identity import Identity
from s6tls.tls.credentials import CredentialPaths, Credentials, Keypair, KeypairPaths, NamedFile, SessionOptions
from s6tls.tls.parameters import TlsParameters

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey
SERVER = "server.example"
FOREVER = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class Pair:
    """The bytes of a key file and of a certificate file."""

    key: bytes
    chain: bytes

    def write(self, place: Path, name: str = "server") -> tuple[bytes, bytes]:
        """Write both files and return their paths."""
        for suffix, data in ((".key", self.key), (".crt", self.chain)):
            replace(place / (name + suffix), data)
        return os.fsencode(place / (name + ".key")), os.fsencode(place / (name + ".crt"))


def replace(path: Path, data: bytes) -> None:
    """Write a file the careful way: a new one in the old one's place."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.rename(path)


@functools.cache
def authority(name: str) -> trustme.CA:
    """One of our authorities; `A/B` is one that A has issued."""
    above, _, below = name.rpartition("/")
    return authority(above).create_child_ca() if above else trustme.CA(organization_name=below)


@functools.cache
def pair(*names: str, by: str = "ours", rsa_key: bool = False) -> Pair:
    """A key and a chain for these server (or client) names, by one of our authorities."""
    kind = trustme.KeyType.RSA if rsa_key else trustme.KeyType.ECDSA
    issued = authority(by).issue_cert(*(names or (SERVER,)), key_type=kind)
    return Pair(issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems))


@functools.cache
def pss() -> Pair:
    """A key that may make signatures of one kind only, RSA-PSS, and its certificate."""
    with tempfile.TemporaryDirectory() as place:
        words = "openssl req -x509 -newkey rsa-pss -pkeyopt rsa_keygen_bits:2048 -nodes -subj /CN=pss"
        subprocess.run([*words.split(), "-keyout", "key", "-out", "crt"], cwd=place, check=True, capture_output=True)
        return Pair(Path(place, "key").read_bytes(), Path(place, "crt").read_bytes())


@functools.cache
def pair_by_intermediate(rsa_key: bool = False) -> Pair:
    """A chain of two: the server's certificate and that of the authority between it and the root."""
    kind = trustme.KeyType.RSA if rsa_key else trustme.KeyType.ECDSA
    issued = authority("ours").create_child_ca().issue_cert(SERVER, key_type=kind)
    return Pair(issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems))


def root(by: str = "ours") -> bytes:
    """The authority's own certificate, PEM."""
    return authority(by).cert_pem.bytes()


def garbled(der: bytes) -> bytes:
    """The same certificate or list by our authority, whose name is no UTF-8: which shows when asked for."""
    assert b"\x0c\x04ours" in der
    return der.replace(b"\x0c\x04ours", b"\x0c\x04\xffurs")


def self_signed(key: Key, subject: x509.Name | None = None) -> x509.Certificate:
    """A certificate for `key`, signed with it (a DSA key gets one whose public key is another's)."""
    name = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER)])
    now = datetime.datetime.now(datetime.UTC)
    signer = ec.generate_private_key(ec.SECP256R1()) if isinstance(key, dsa.DSAPrivateKey) else key
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(signer.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + FOREVER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )


def self_made(key: Key) -> Pair:
    """A key with a certificate that is signed with it."""
    return Pair(key_bytes(key), self_signed(key).public_bytes(Encoding.PEM))


def lasting(period: datetime.timedelta) -> Pair:
    """A pair that is valid for so long from now on."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(
        now - datetime.timedelta(days=1)
    )
    made = builder.not_valid_after(now + period).sign(key, hashes.SHA256())
    return Pair(key_bytes(key), made.public_bytes(Encoding.PEM))


def key_bytes(key: Key, der: bool = False, traditional: bool = False, password: bytes = b"") -> bytes:
    return key.private_bytes(
        Encoding.DER if der else Encoding.PEM,
        PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8,
        BestAvailableEncryption(password) if password else NoEncryption(),
    )


def as_der(pair: Pair) -> Pair:
    """The same key and (first) certificate in DER."""
    key = load_pem_private_key(pair.key, None)
    return Pair(
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        x509.load_pem_x509_certificate(pair.chain).public_bytes(Encoding.DER),
    )


def keypair(pair: Pair, name: bytes = b"", second: bool = False, response: NamedFile | None = None) -> Keypair:
    """What the files of a pair hold, for a server's name or for all."""
    suffix = ("2" if second else "") + (f":{name.decode()}" if name else "")
    return Keypair(
        name, NamedFile(f"KEYFILE{suffix} /key", pair.key), NamedFile(f"CERTFILE{suffix} /crt", pair.chain), response
    )


def credentials(
    *keypairs: tuple[bytes, Pair], default: Pair | None = None, trusted: tuple[bytes, ...] = (), revoked: bytes = b""
) -> Credentials:
    """What the files hold: a default pair, and pairs for server names, authorities and a CRLFILE."""
    pairs = ([(b"", default)] if default else []) + list(keypairs)
    return Credentials(
        tuple(
            keypair(one, name, second=name in (earlier for earlier, _ in pairs[:number]))
            for number, (name, one) in enumerate(pairs)
        ),
        tuple(NamedFile(f"CADIR /cas/{number}", data) for number, data in enumerate(trusted)),
        (NamedFile("CRLFILE /crl", revoked),) if revoked else (),
    )


def parameters(options: SessionOptions | None = None, identity: Identity | None = None) -> TlsParameters:
    """Parameters whose files have been read."""
    return TlsParameters(CredentialPaths(()), options or SessionOptions(), identity)


def paths(place: Path, pair: Pair) -> CredentialPaths:
    """Write a pair's files and return where they are, as a rule would name them."""
    return CredentialPaths((KeypairPaths(b"", *pair.write(place)),))


def ocsp_response(
    about: Pair,
    by: str = "ours/issuing",
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    begins: float = -1,
    days: float | None = 1,
    signer: Pair | None = None,
    told: bool = True,
) -> bytes:
    """What an authority says of a certificate by it, from some days from now until some days from now.

    A `signer` signs in its place, and unless `told` its certificate is not in the response.
    """
    own, now = x509.load_pem_x509_certificates(about.chain)[0], datetime.datetime.now(datetime.UTC)
    issuer = x509.load_pem_x509_certificate(root(by))
    ends = None if days is None else now + datetime.timedelta(days=days)
    revoked = now if status is ocsp.OCSPCertStatus.REVOKED else None
    responder, key = (issuer, authority(by).private_key_pem.bytes())
    if signer is not None:
        responder, key = x509.load_pem_x509_certificates(signer.chain)[0], signer.key
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(own, issuer, hashes.SHA1(), status, now + datetime.timedelta(days=begins), ends, revoked, None)
        .responder_id(ocsp.OCSPResponderEncoding.HASH, responder)
    )
    if signer is not None and told:
        builder = builder.certificates([responder])
    private = load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.DER)


def revocations(
    *revoked: Pair,
    by: str = "ours",
    days: float = 1,
    end: datetime.datetime | None = None,
    der: bool = False,
    signed_by: str = "",
    begins: datetime.datetime | None = None,
) -> bytes:
    """The list of certificates that an authority has revoked, in force for some days from now, or until an `end`."""
    key = load_pem_private_key(authority(signed_by or by).private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_pem_x509_certificate(root(by)).subject)
        .last_update(begins or now - FOREVER)
        .next_update(end or now + datetime.timedelta(days=days))
    )
    for one in revoked:
        serial = x509.load_pem_x509_certificate(one.chain).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER if der else Encoding.PEM)
