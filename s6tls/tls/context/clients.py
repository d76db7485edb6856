"""What clients' certificates are checked against: authorities, and their revocation lists."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

from cryptography import x509
from OpenSSL import SSL, crypto

from s6tls.pki.parsing import authorities, reason, revocations
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
        return cls(list(trusted), [found for which, data in credentials.revoked for found in revocations(data, which)])

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
                store.add_crl(crl)
            if self.revoked:
                store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
        except (SSL.Error, crypto.Error) as error:
            raise BadConfiguration(f"unable to use CA or CRL: {reason(error)}") from error
        mode = SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE
        context.set_verify(mode | SSL.VERIFY_FAIL_IF_NO_PEER_CERT if mandatory else mode, _explain)


_VERIFY_ERRORS = {
    number: name.removeprefix("ERR_").replace("_", " ").lower()
    for name, number in vars(SSL.X509VerificationCodes).items()
    if name.startswith("ERR_")
}


def _explain(connection: SSL.Connection, _certificate: crypto.X509, number: int, _depth: int, good: int) -> bool:
    """Leave the library its verdict on a client's certificate; note what it does not tell but here.

    Nothing may be raised: pyOpenSSL looks for it at the context that serves the name, and it comes from the first.
    """
    if not good:
        connection.set_app_data(_VERIFY_ERRORS.get(number, f"error {number}"))
    return bool(good)
