"""What clients' certificates are checked against: authorities, and their revocation lists.

An authority need not be a root.  The library has a flag for that (X509_V_FLAG_PARTIAL_CHAIN), but under it each chain
ends at the first of our authorities, even where we have the root: neither the root's list nor its dates would count.
So we leave the library its verdict, but where all that it lacks is something above an *end*: an authority whose own
issuer we have not been given.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from s6tls.pki.parsing import authorities, reason, revocations
from s6tls.tls import library
from s6tls.tls.context.errors import BadConfiguration
from s6tls.tls.credentials import Credentials

_LONGEST_CA_LIST = 16384
"""Bytes of authorities' names that clients are told: more would not fit into what some of them take."""


@dataclass(frozen=True)
class Clients:
    """What clients' certificates are checked against."""

    authorities: list[x509.Certificate]
    revoked: list[x509.CertificateRevocationList]

    @classmethod
    def of(cls, credentials: Credentials) -> Clients:
        """Parse what files hold.  Raises Unusable, or BadConfiguration when there is no authority."""
        # In a directory of CAs most are there twice, under a name and under a hash.
        trusted = dict.fromkeys(found for which, data in credentials.trusted for found in authorities(data, which))
        if not trusted:
            raise BadConfiguration("unable to check client certificates: there is no CA in CADIR")
        clients = cls(
            list(trusted), [found for which, data in credentials.revoked for found in revocations(data, which)]
        )
        return cls([one for one in trusted if not clients._is_revoked_end(one)], clients.revoked)

    @property
    def valid_until(self) -> float:
        """When the first of these that is in force runs out; a list gives way to a newer one of the same issuer."""
        lists: dict[bytes, float] = {}
        for crl in self.revoked:
            ends = inf if crl.next_update_utc is None else crl.next_update_utc.timestamp()
            issuer = crl.issuer.public_bytes()
            lists[issuer] = max(lists.get(issuer, -inf), ends)
        all_ends = [authority.not_valid_after_utc.timestamp() for authority in self.authorities] + list(lists.values())
        return min((ends for ends in all_ends if ends > time.time()), default=inf)

    def ask(self, context: SSL.Context, mandatory: bool) -> None:
        """Have a context ask for certificates.

        They are checked against the authorities and, if there is any list, against one of each authority in the chain.
        Raises BadConfiguration.
        """
        store = context.get_cert_store()
        if store is None:
            raise BadConfiguration("unable to get the certificate store")
        told = sum(len(certificate.subject.public_bytes()) for certificate in self.authorities) <= _LONGEST_CA_LIST
        try:
            for certificate in self.authorities:
                store.add_cert(crypto.X509.from_cryptography(certificate))
                if told:
                    context.add_client_ca(certificate)
            for crl in self.revoked:
                if crl.issuer not in self._above:  # it is about ends; and nobody is here to check its signature with
                    store.add_crl(crl)
            if self.revoked:
                store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
        except (SSL.Error, crypto.Error) as error:
            raise BadConfiguration(f"unable to use CA or CRL: {reason(error)}") from error
        mode = SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE
        ends = {one.public_bytes(Encoding.DER): _Validity.of(one) for one in self.authorities if self._is_end(one)}
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT if mandatory else 0
        library.judge_certificates(context, mode, _forgive(ends))

    def _is_revoked_end(self, authority: x509.Certificate) -> bool:
        """Tell whether an end is in a list of its issuer: the library does not look at it."""
        serial = authority.serial_number
        lists = [crl for crl in self.revoked if crl.issuer == authority.issuer] if self._is_end(authority) else []
        return any(crl.get_revoked_certificate_by_serial_number(serial) is not None for crl in lists)

    def _is_end(self, authority: x509.Certificate) -> bool:
        return authority.issuer in self._above

    @functools.cached_property
    def _above(self) -> set[x509.Name]:
        """Who has issued an authority, and is none."""
        return {one.issuer for one in self.authorities} - {one.subject for one in self.authorities}


class _Validity(NamedTuple):
    """The period of a certificate, in seconds since 1970."""

    begins: float
    ends: float

    @classmethod
    def of(cls, certificate: x509.Certificate) -> _Validity:
        return cls(certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp())


_CODES = SSL.X509VerificationCodes
_NOTHING_ABOVE = frozenset({_CODES.ERR_UNABLE_TO_GET_ISSUER_CERT, _CODES.ERR_UNABLE_TO_GET_CRL})
"""What the library says of a certificate of ours whose issuer it does not find, and whose issuer's list."""
_EXPIRED: int = _CODES.ERR_CERT_HAS_EXPIRED
_NOT_YET_VALID: int = _CODES.ERR_CERT_NOT_YET_VALID


def _forgive(ends: Mapping[bytes, _Validity]) -> Callable[[bytes, int, int], int]:
    """Return what is left of the library's verdict without what is missing above an end."""

    def forgive(certificate: bytes, depth: int, number: int) -> int:
        validity = ends.get(certificate) if number in _NOTHING_ABOVE and depth > 0 else None
        if validity is None:
            return number
        now = time.time()
        if validity.begins <= now <= validity.ends:
            return 0
        return _EXPIRED if validity.ends < now else _NOT_YET_VALID

    return forgive
