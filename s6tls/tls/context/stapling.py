"""OCSP stapling: with a certificate goes what its authority says of it, to clients that ask for that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from s6tls.pki import Unusable
from s6tls.pki.ocsp import Staple, staple
from s6tls.tls import library
from s6tls.tls.credentials import PROGRAM, NamedFile
from s6tls.ucspi.log import log

clock = time.time


class Staples:
    """What is stapled to which certificate."""

    def __init__(self) -> None:
        self._by_certificate: dict[bytes, Staple] = {}

    def add(self, certificates: Sequence[x509.Certificate], response: NamedFile) -> float:
        """Staple a response to the first certificate of its chain, and return when it runs out.

        If no client would believe it, say so.
        """
        try:
            found = staple(response.data, certificates, response.name)
        except Unusable as error:
            log(PROGRAM, "warning", f"{error}: it is left out")
            return inf
        self._by_certificate[certificates[0].public_bytes(Encoding.DER)] = found
        return found.ends

    def serve(self, context: SSL.Context) -> None:
        """Have a context staple, if there is anything, and while it counts."""
        if self._by_certificate:
            library.serve_responses(context, self._response)

    def _response(self, certificate: bytes) -> bytes:
        """Return what goes with the certificate that the library has chosen, b"" for nothing."""
        found = self._by_certificate.get(certificate)
        return found.response if found and found.counts(clock()) else b""
