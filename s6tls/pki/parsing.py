"""From the bytes of files to keys, certificates and revocation lists that the TLS library takes.

PEM or DER; keys are RSA (for PSS only, too), ECDSA or Ed25519, without a password.  Two libraries have a say.  One
parses, some things only when asked for them: dates, names.  The other serves, and has its own opinion of names, of
encodings and of keys that are too short.  What comes from here is good for both.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, load_pem_private_key
from OpenSSL import SSL, crypto

from s6tls.pki import Kind, Unusable, diagnosis

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | crypto.PKey
"""The last is for RSA-PSS: the other library forgets that such a key makes signatures of one kind only."""
T = TypeVar("T")

_PEM = b"-----BEGIN"
_CERTIFICATE_BEGINS = b"-----BEGIN CERTIFICATE-----", b"-----BEGIN X509 CERTIFICATE-----"
_CRL = b"-----BEGIN X509 CRL"
_CRL_BEGINS, _CRL_ENDS = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"
_RSA_PSS = 912
"""EVP_PKEY_RSA_PSS of openssl/evp.h."""
_OTHER_KEYS = "neither RSA, ECDSA nor Ed25519: make one of these"


def private_key(data: bytes, what: str = "private key") -> Key:
    """Return the private key in a file, which messages call `what`.  Raises Unusable."""
    pem = _PEM in data

    def why(error: Exception) -> str:
        return diagnosis.of_locked_key() if isinstance(error, TypeError) else diagnosis.of_key(data)

    key = parsed(Kind.KEY, what, lambda: (load_pem_private_key if pem else load_der_private_key)(data, None), why)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise Unusable(Kind.KEY, what, _OTHER_KEYS)
    form = crypto.FILETYPE_PEM if pem else crypto.FILETYPE_ASN1
    known = parsed(Kind.KEY, what, lambda: crypto.load_privatekey(form, data))
    return known if known.type() == _RSA_PSS else key


def check_kinds(keys: Sequence[Key], what: str = "private key") -> None:
    """Raise Unusable where two keys for one server are of one kind: the TLS library has room for one of each."""
    if len({_kind(key) for key in keys}) < len(keys):
        raise Unusable(Kind.KEY, what, "of the same kind as the first: name a key of another kind, or only one")


def _kind(key: Key) -> int:
    return _loaded(key).type()


def _loaded(key: Key) -> crypto.PKey:
    return key if isinstance(key, crypto.PKey) else crypto.PKey.from_cryptography_key(key)


def _public_half(key: crypto.PKey) -> bytes:
    return crypto.dump_publickey(crypto.FILETYPE_ASN1, key)


def chain(data: bytes, what: str = "certificate") -> list[x509.Certificate]:
    """Return the certificates in a file, which messages call `what`, that of the server first.  Raises Unusable."""
    found = _certificates(data, what)
    public = parsed(Kind.CERTIFICATE, what, found[0].public_key)
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise Unusable(Kind.CERTIFICATE, what, _OTHER_KEYS)
    for certificate in found:  # of those that lead to the first, the library would say it to each client
        if why := weakness(certificate):
            raise Unusable(Kind.CERTIFICATE, what, why)
    return found


def weakness(certificate: x509.Certificate) -> str:
    """Return why the TLS library finds a certificate's key or signature too weak, or ""."""
    try:
        SSL.Context(SSL.TLS_SERVER_METHOD).use_certificate(certificate)
    except (SSL.Error, crypto.Error) as error:
        return diagnosis.of_weakness(reason(error))
    return ""


def authorities(data: bytes, which: str) -> list[x509.Certificate]:
    """Return the certificates of authorities in a file, which messages call `which`.  Raises Unusable."""
    found = _certificates(data, which)
    parsed(Kind.CERTIFICATE, which, lambda: [authority.subject.public_bytes() for authority in found])
    return found


def revocations(data: bytes, which: str) -> list[x509.CertificateRevocationList]:
    """Return the revocation lists in a file, which messages call `which`: one in DER, any number in PEM.

    Raises Unusable, also where anything that begins like a list is none.
    """
    _, *blocks = data.split(_CRL_BEGINS)
    if _PEM in data and not (blocks and len(blocks) == data.count(_CRL) and all(_CRL_ENDS in one for one in blocks)):
        raise Unusable(Kind.CRL, which, diagnosis.of_lists(data))
    whole = [_CRL_BEGINS + block.partition(_CRL_ENDS)[0] + _CRL_ENDS for block in blocks]

    def parse() -> list[x509.CertificateRevocationList]:
        found = list(map(x509.load_pem_x509_crl, whole)) if _PEM in data else [x509.load_der_x509_crl(data)]
        store = crypto.X509Store()
        for crl in found:
            _ = crl.issuer.public_bytes(), crl.last_update_utc, crl.next_update_utc
            store.add_crl(crl)
        return found

    return parsed(Kind.CRL, which, parse, lambda _: diagnosis.of_lists(data))


def use_keypair(
    context: SSL.Context, key: Key, certificates: Sequence[x509.Certificate], what: str = "keypair", alone: bool = True
) -> None:
    """Let a context serve with a key and the chain of its certificate, which messages call `what`.

    Raises Unusable, as where they do not match.

    A context has one chain for all certificates, unless the chain comes in a file with its certificate.  So a pair that
    is not `alone` in its context is put into a file in memory.
    """

    def use() -> None:
        if alone:
            context.use_certificate(certificates[0])
            for certificate in certificates[1:]:
                context.add_extra_chain_cert(certificate)
        else:
            with open(os.memfd_create("chain"), "wb", 0) as file:
                file.write(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
                context.use_certificate_chain_file(f"/proc/self/fd/{file.fileno()}")
        context.use_privatekey(key)
        context.check_privatekey()

    def why(error: Exception) -> str:
        own = _public_half(_loaded(key))
        halves = [_public_half(crypto.X509.from_cryptography(one).get_pubkey()) for one in certificates]
        return reason(error) if own == halves[0] else diagnosis.of_mismatch(own, halves)

    parsed(Kind.KEYPAIR, what, use, why)


def check_keypair(key: Key, certificates: Sequence[x509.Certificate]) -> None:
    """Raise Unusable where `use_keypair` would."""
    use_keypair(SSL.Context(SSL.TLS_SERVER_METHOD), key, certificates)


def name_of(owner: x509.Certificate | x509.CertificateRevocationList) -> str:
    """Return whom a certificate is about, or who made a list, as RFC 4514 text; "" for a name that does not parse."""
    with contextlib.suppress(ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (owner.subject if isinstance(owner, x509.Certificate) else owner.issuer).rfc4514_string()
    return ""


def reason(error: Exception) -> str:
    """Return the first sentence of a library's message, on one line."""
    if isinstance(error, SSL.Error | crypto.Error) and error.args and isinstance(error.args[0], list):
        return "; ".join(str(entry[-1]) for entry in error.args[0]) or "unusable"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _certificates(data: bytes, what: str) -> list[x509.Certificate]:
    def parse() -> list[x509.Certificate]:
        found = x509.load_pem_x509_certificates(data) if _PEM in data else [x509.load_der_x509_certificate(data)]
        if sum(map(data.count, _CERTIFICATE_BEGINS)) > len(found):  # the library passes over one without an end
            raise ValueError
        for certificate in found:
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            crypto.X509.from_cryptography(certificate)
        return found

    return parsed(Kind.CERTIFICATE, what, parse, lambda _: diagnosis.of_certificates(data))


def parsed(kind: Kind, what: str, parse: Callable[[], T], why: Callable[[Exception], str] = reason) -> T:
    """Let a library parse what messages call `what`; it warns of oddities that do no harm.

    Raises Unusable for whatever it raises, with the words that `why` finds for that.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parse()
    except Exception as error:
        raise Unusable(kind, what, why(error)) from error
