"""What is odd about files that serve all the same, and what they hold: for whoever looks after them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography import x509

from s6tls.pki import Unusable, judgement
from s6tls.pki.judgement import Times
from s6tls.pki.parsing import authorities, chain, revocations
from s6tls.tls.credentials import Credentials, Keypair

SOON_DAYS = 14
_MOST_NAMES = 8


def oddities(credentials: Credentials) -> Iterator[str]:
    """Yield what to warn of: what has expired or will within `SOON_DAYS`, and chains that are not whole.

    Raises Unusable for what `build` refuses.
    """
    times = Times.within(SOON_DAYS)
    for pair, certificates in _chains(credentials):
        for certificate in certificates:
            yield from (f"{pair.chain.name}: {odd}" for odd in judgement.of_certificate(certificate, times))
        yield from (f"{pair.chain.name}: {odd}" for odd in judgement.of_chain(certificates))
    seen: set[x509.Certificate] = set()
    for file in credentials.trusted:
        for authority in authorities(file.data, file.name):
            if authority not in seen:  # in a directory of CAs most are there twice
                seen.add(authority)
                yield from (f"{file.name}: {odd}" for odd in judgement.of_authority(authority, times))
    for file in credentials.revoked:
        for crl in revocations(file.data, file.name):
            yield from (f"{file.name}: {odd}" for odd in judgement.of_list(crl, _for_list(crl, times)))


def expiries(credentials: Credentials) -> Iterator[tuple[float, str]]:
    """Yield what there will be to warn of while the files are in use, and when: in seconds since 1970.

    Raises Unusable for what `build` refuses.
    """
    now = Times.within(SOON_DAYS)
    for pair, certificates in _chains(credentials):
        for certificate in certificates:
            ends = certificate.not_valid_after_utc
            for moment in (ends - now.soon, ends):
                if moment > now.now:
                    odds = judgement.of_certificate(certificate, Times(moment, now.soon))
                    yield from ((moment.timestamp(), f"{pair.chain.name}: {odd}") for odd in odds)


def _chains(credentials: Credentials) -> Iterator[tuple[Keypair, Sequence[x509.Certificate]]]:
    """Yield the pairs with their chains, but for those whose names are refused: `build` has warned of them."""
    for pair in credentials.keypairs:
        try:
            certificates = chain(pair.chain.data, pair.chain.name)
        except Unusable:
            if not pair.stands_alone:
                raise
        else:
            yield pair, certificates


def _for_list(crl: x509.CertificateRevocationList, times: Times) -> Times:
    """Return what is soon for a list: many last a few days, and are renewed in their last quarter."""
    if crl.next_update_utc is None:
        return times
    return times._replace(soon=min(times.soon, (crl.next_update_utc - crl.last_update_utc) / 4))


def contents(credentials: Credentials) -> Iterator[str]:
    """Yield a line about what each file holds.  Raises Unusable for what `build` refuses."""
    for pair, certificates in _chains(credentials):
        yield f"{pair.chain.name}: {_described(certificates)}"
        yield f"{pair.key.name}: the key of {pair.chain.name}"
        if pair.response is not None:
            yield f"{pair.response.name}: {len(pair.response.data)} bytes to staple"
    for file in credentials.trusted:
        for authority in authorities(file.data, file.name):
            yield f"{file.name}: {judgement.named(authority)}, until {authority.not_valid_after_utc:%Y-%m-%d}"
    for file in credentials.revoked:
        for crl in revocations(file.data, file.name):
            ends = "for ever" if crl.next_update_utc is None else f"until {crl.next_update_utc:%Y-%m-%d}"
            yield f"{file.name}: the list of {judgement.maker_of(crl)}, {ends}"


def _described(certificates: Sequence[x509.Certificate]) -> str:
    first, last = certificates[0], judgement.linked(certificates)[-1]
    names = judgement.names_in(first)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    parts = [
        judgement.named(first),
        f"for {', '.join(names[:_MOST_NAMES])}{more}" if names else "for no name",
        f"from {first.not_valid_before_utc:%Y-%m-%d} to {first.not_valid_after_utc:%Y-%m-%d}",
        f"issued by {judgement.issuer_of(first)}",
        f"clients have to trust {judgement.issuer_of(last)}",
    ]
    return "; ".join(parts)
