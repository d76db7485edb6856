"""OCSP responses: what an authority says of our certificate, to be handed to clients with it.

A client believes what the authority has signed, and no longer than it says.  Handing out anything else would only make
clients turn away, so it is judged here as a client would.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cryptography.hazmat.backends.openssl.backend  # noqa: F401  # or the library would, once nobody may read it
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from s6tls.pki import Kind
from s6tls.pki.parsing import parsed


class Staple(NamedTuple):
    """A response in DER, and the period in which it counts, in seconds since 1970."""

    response: bytes
    begins: float
    ends: float

    def counts(self, now: float) -> bool:
        """Tell whether clients believe it now."""
        return self.begins <= now < self.ends


def staple(data: bytes, certificates: Sequence[x509.Certificate], which: str) -> Staple:
    """Return the response in a file, which messages call `which`, about the first certificate of a chain.

    Raises Unusable for one that no client would believe, now at least.
    """
    return parsed(Kind.OCSP, which, lambda: _staple(data, certificates))


def _staple(data: bytes, certificates: Sequence[x509.Certificate]) -> Staple:
    """Raises ValueError, and whatever the library raises."""
    if not data:
        raise ValueError("not there, not readable or empty")
    try:
        response = ocsp.load_der_ocsp_response(data)
    except ValueError:
        raise ValueError("no OCSP response in DER") from None
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise ValueError(f"the authority has no answer: {response.response_status.name.lower()}")
    own = certificates[0]
    issuer = next((one for one in certificates[1:] if _has_issued(one, own)), None)
    if issuer is None:
        raise ValueError("the certificate of the authority is not in the chain")
    if not any(_has_signed(signer, response) for signer in _signers(response, issuer)):
        raise ValueError("not signed by the authority of the certificate")
    about = next((single for single in response.responses if _is_about(single, own, issuer)), None)
    if about is None:
        raise ValueError("about another certificate")
    if about.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise ValueError(f"the certificate is {about.certificate_status.name.lower()}")
    ends = about.next_update_utc
    found = Staple(data, about.this_update_utc.timestamp(), float("inf") if ends is None else ends.timestamp())
    if not found.counts(time.time()):
        raise ValueError("not valid yet" if found.begins > time.time() else "expired")
    return found


def _has_issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    with contextlib.suppress(ValueError, TypeError, InvalidSignature):
        certificate.verify_directly_issued_by(authority)
        return True
    return False


def _signers(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> Iterator[x509.Certificate]:
    """Yield who may sign: the authority, and those whom it has given a certificate for that (RFC 6960, 4.2.2.2)."""
    yield issuer
    now = time.time()
    for one in response.certificates:
        in_time = one.not_valid_before_utc.timestamp() <= now <= one.not_valid_after_utc.timestamp()
        if in_time and _has_issued(issuer, one) and _is_for_signing(one):
            yield one


def _is_for_signing(certificate: x509.Certificate) -> bool:
    with contextlib.suppress(x509.ExtensionNotFound):
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return ExtendedKeyUsageOID.OCSP_SIGNING in usage
    return False


def _has_signed(signer: x509.Certificate, response: ocsp.OCSPResponse) -> bool:
    key, digest = signer.public_key(), response.signature_hash_algorithm
    try:
        if isinstance(key, rsa.RSAPublicKey) and digest is not None:
            key.verify(response.signature, response.tbs_response_bytes, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(digest))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(response.signature, response.tbs_response_bytes)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _is_about(single: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, single.hash_algorithm).build()
    return (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == (
        asked.serial_number,
        asked.issuer_name_hash,
        asked.issuer_key_hash,
    )
