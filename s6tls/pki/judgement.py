"""What is odd about certificates and revocation lists that can be used: their dates, and what a chain lacks.

A server warns of it, and lint makes findings of it.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import AuthorityInformationAccessOID
from OpenSSL import SSL, crypto

from s6tls.accessrules.text import shown
from s6tls.pki.parsing import name_of, weakness

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h."""

_UNREADABLE = (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError)
"""What the library raises for an extension that is not there, or does not parse."""


class Oddity(NamedTuple):
    """One thing that is odd: `code` names its kind, `remedy` says what to do; `grave` is what clients refuse now."""

    code: str
    message: str
    remedy: str
    grave: bool

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}"


class Times(NamedTuple):
    """The time now, and what is soon."""

    now: datetime.datetime
    soon: datetime.timedelta

    @classmethod
    def within(cls, days: int) -> Times:
        """Return the time now, with so many days for soon."""
        return cls(datetime.datetime.now(datetime.UTC), datetime.timedelta(days=days))


def of_certificate(certificate: x509.Certificate, times: Times) -> Iterator[Oddity]:
    """Yield what time has done to a certificate, or will do soon."""
    which = named(certificate)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends <= times.now:
        yield Oddity("certificate-expired", f"{which} has expired, on {ends:%Y-%m-%d}", "renew it", True)
    elif begins > times.now:
        message = f"{which} is not valid before {begins:%Y-%m-%d}"
        yield Oddity("certificate-not-yet-valid", message, "wait, or use another one", True)
    elif ends - times.now <= times.soon:
        yield Oddity("certificate-expires", f"{which} expires soon, on {ends:%Y-%m-%d}", "renew it", False)


def of_authority(authority: x509.Certificate, times: Times) -> Iterator[Oddity]:
    """Yield what keeps an authority's clients out, or will soon."""
    yield from of_certificate(authority, times)
    if why := weakness(authority):
        message = f"{named(authority)} is too weak ({why}): no client of this authority gets in"
        yield Oddity("certificate-weak", message, "have a new one made, with a longer key", True)


def of_list(crl: x509.CertificateRevocationList, times: Times) -> Iterator[Oddity]:
    """Yield what time has done to a revocation list, or will do soon."""
    begins, ends = crl.last_update_utc, crl.next_update_utc
    which = f"the list of {maker_of(crl)}"
    if begins > times.now:
        message = f"{which} is not valid before {begins:%Y-%m-%d}: no client of this authority gets in"
        yield Oddity("crl-not-yet-valid", message, "wait, or use another one", True)
    elif ends is not None and ends < times.now:
        message = f"{which} has expired, on {ends:%Y-%m-%d}: no client of this authority gets in"
        yield Oddity("crl-expired", message, "fetch a new one", True)
    elif ends is not None and ends - times.now < times.soon:
        yield Oddity("crl-expires", f"{which} expires soon, on {ends:%Y-%m-%d}", "fetch a new one in time", False)


def of_chain(certificates: Sequence[x509.Certificate]) -> Iterator[Oddity]:
    """Yield what a chain lacks between the first certificate, the server's, and an authority; and what is too much.

    Whether the last issuer is an authority that clients know cannot be told for certain.  It is lacking if this system
    does not know it either, and the certificate says where to fetch it: those issued by private roots do not say that.
    """
    chain = linked(certificates)
    others = [one for one in certificates if one not in chain]
    for one in others:
        message = f"{named(one)} does not belong to the chain of the first"
        yield Oddity("chain-unrelated", message, "remove it", False)
    last = chain[-1]
    if not is_self_issued(last) and (others or _says_where_its_issuer_is(last)) and not _is_known_here(last):
        message = f"{named(last)} is issued by {issuer_of(last) or 'another'}, whose certificate is not in the file"
        yield Oddity("chain-incomplete", message, "add it behind, or clients may not trust the server", False)


def linked(certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the first certificate, its issuer, the issuer of that, and so on as far as they are there."""
    chain, others = [certificates[0]], list(certificates[1:])
    while not is_self_issued(chain[-1]) and (issuer := _issuer_of(chain[-1], others)):
        chain.append(issuer)
        others.remove(issuer)
    return chain


def named(certificate: x509.Certificate) -> str:
    """Return what messages call a certificate."""
    subject = shown(name_of(certificate).encode())
    return f"the certificate of {subject}" if subject else "the certificate"


def issuer_of(certificate: x509.Certificate) -> str:
    """Return who has issued a certificate, as RFC 4514 text; "" for a name that does not parse."""
    with contextlib.suppress(ValueError):
        return shown(certificate.issuer.rfc4514_string().encode())
    return ""


def maker_of(crl: x509.CertificateRevocationList) -> str:
    """Return who has made a list, as `issuer_of` does."""
    return shown(name_of(crl).encode())


def names_in(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses that a certificate is for, as far as they parse."""
    with contextlib.suppress(*_UNREADABLE):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
        return [shown(name.encode()) for name in (*names, *map(str, found.get_values_for_type(x509.IPAddress)))]
    return []


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate needs no other one: it names itself as its issuer."""
    with contextlib.suppress(ValueError):  # of a name that does not parse
        return certificate.issuer == certificate.subject
    return False


def _issuer_of(certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> x509.Certificate | None:
    for other in others:
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            certificate.verify_directly_issued_by(other)
            return other
    return None


def _says_where_its_issuer_is(certificate: x509.Certificate) -> bool:
    with contextlib.suppress(*_UNREADABLE):
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access)
    return False


def _is_known_here(certificate: x509.Certificate) -> bool:
    """Tell whether an authority of this system has issued a certificate."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_default_verify_paths()
    store = context.get_cert_store()
    if store is None:
        return False
    store.set_flags(_NO_CHECK_TIME)
    try:
        crypto.X509StoreContext(store, crypto.X509.from_cryptography(certificate)).verify_certificate()
    except (crypto.X509StoreContextError, crypto.Error):
        return False
    return True
