"""What is said of files that cannot be used: in words that help who looks after them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    pkcs12,
)

from s6tls.pki import Unusable, diagnosis
from s6tls.pki.parsing import authorities, chain, check_keypair, private_key, revocations
from tests.support import pki

PAIR = pki.pair()
KEY = ec.generate_private_key(ec.SECP256R1())


@cache
def archive() -> bytes:
    """A key and its certificate as PKCS#12."""
    certificate = pki.self_signed(KEY)
    return pkcs12.serialize_key_and_certificates(b"x", KEY, certificate, None, BestAvailableEncryption(b"secret"))


def openssh() -> bytes:
    """A key in a form that TLS libraries do not read, as far as its label tells."""
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"


ENCRYPTED = "it is encrypted, and nobody is there to give a server the password: decrypt it (openssl pkey)"
KEYS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "it is empty: put the private key there again"),
    "blank": (lambda: b" \n", "it is empty: put the private key there again"),
    "noise": (lambda: b"\0\xff" * 50, "it is neither PEM nor DER: put the private key there again"),
    "encrypted": (lambda: pki.key_bytes(KEY, password=b"x"), ENCRYPTED),
    "encrypted, old form": (lambda: pki.key_bytes(KEY, password=b"x", traditional=True), ENCRYPTED),
    "encrypted DER": (lambda: pki.key_bytes(KEY, password=b"x", der=True), ENCRYPTED),
    "a certificate": (
        lambda: PAIR.chain,
        "there is no private key in it, only CERTIFICATE: name the file with the private key",
    ),
    "cut": (lambda: PAIR.key[:60], "it is cut short: copy the whole file"),
    "damaged": (lambda: PAIR.key.replace(b"\nM", b"\nN"), "what is in it is damaged: put the private key there again"),
    "cut DER": (lambda: pki.key_bytes(KEY, der=True)[:-9], "what is in it is damaged: put the private key there again"),
    "PKCS#12": (archive, "it is a PKCS#12 archive: take the private key out of it (openssl pkcs12)"),
    "OpenSSH": (openssh, "what is in it is damaged: put the private key there again"),
    "DSA": (lambda: pki.key_bytes(dsa.generate_private_key(1024)), "neither RSA, ECDSA nor Ed25519: make one of these"),
}
CERTIFICATES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "it is empty: put the certificate there again"),
    "noise": (lambda: b"hello\n", "it is neither PEM nor DER: put the certificate there again"),
    "a key": (
        lambda: PAIR.key,
        "there is no certificate in it, only EC PRIVATE KEY: name the file with the certificate",
    ),
    "cut": (lambda: PAIR.chain[:200], "a certificate in it is cut short: copy the whole file"),
    "the second cut": (lambda: PAIR.chain + PAIR.chain[:99], "a certificate in it is cut short: copy the whole file"),
    "damaged": (lambda: PAIR.chain.replace(b"M", b"N"), "what is in it is damaged: put the certificate there again"),
    "DER and more": (
        lambda: pki.as_der(PAIR).chain + b"x",
        "what is in it is damaged: put the certificate there again",
    ),
    "PKCS#12": (archive, "it is a PKCS#12 archive: take the certificate out of it (openssl pkcs12)"),
    "too short": (
        lambda: pki.self_signed(rsa.generate_private_key(65537, 1024)).public_bytes(Encoding.PEM),
        "its key is too short for this system's OpenSSL",
    ),
}


def why(read: Callable[[], object]) -> str:
    with pytest.raises(Unusable) as refused:
        read()
    return refused.value.why


@pytest.mark.parametrize("what", KEYS)
def test_a_key(what: str) -> None:
    data, words = KEYS[what]
    assert why(lambda: private_key(data())) == words


@pytest.mark.parametrize("what", CERTIFICATES)
def test_a_certificate(what: str) -> None:
    data, words = CERTIFICATES[what]
    assert why(lambda: chain(data())) == words


def test_what_the_library_finds_too_weak_otherwise() -> None:
    assert diagnosis.of_weakness("ca md too weak") == "its signature has a digest that is no longer safe"
    assert diagnosis.of_weakness("unheard of") == "unheard of"


def test_authorities_and_lists() -> None:
    assert why(lambda: authorities(PAIR.key, "")).startswith("there is no certificate in it")
    assert why(lambda: revocations(PAIR.chain, "")).startswith("there is no revocation list in it, only CERTIFICATE: ")
    assert why(lambda: revocations(pki.revocations()[:-9], "")).startswith("what is in it is damaged: ")


def test_a_pair_that_does_not_match() -> None:
    both = x509.load_pem_x509_certificates(pki.pair_by_intermediate().chain)
    key = private_key(pki.pair_by_intermediate().key)
    assert why(lambda: check_keypair(key, both[::-1])) == "the key's certificate is number 2 in the file: put it first"
    other = why(lambda: check_keypair(private_key(PAIR.key), both))
    assert other.startswith("the key is not that of the first certificate: ")
