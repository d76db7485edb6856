"""What a server warns of at once, and later."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from s6tls.tls.context.oddities import expiries, oddities
from tests.support import pki
from tests.support.pki import Pair

DAY = datetime.timedelta(days=1)


def lasting(period: datetime.timedelta) -> Pair:
    """A pair that is valid for so long from now on."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "www")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    made = builder.not_valid_before(now - DAY).not_valid_after(now + period).sign(key, hashes.SHA256())
    return Pair(pki.key_bytes(key), made.public_bytes(Encoding.PEM))


def said_later(period: datetime.timedelta) -> list[tuple[int, str]]:
    """In how many days something is said, and what."""
    now = datetime.datetime.now(datetime.UTC).timestamp()
    found = expiries(pki.credentials(default=lasting(period)))
    return [(round((moment - now) / DAY.total_seconds()), what.partition("www ")[2][:11]) for moment, what in found]


def test_what_will_expire_is_said_in_time() -> None:
    assert said_later(90 * DAY) == [(76, "expires soo"), (90, "has expired")]
    assert said_later(9 * DAY) == [(9, "has expired")]
    assert said_later(-DAY / 2) == []


def test_a_list_of_a_few_days_is_no_oddity_until_its_last_quarter() -> None:
    now = datetime.datetime.now(datetime.UTC)
    for days, codes in ((-6, 0), (-9, 1)):
        begun = now + datetime.timedelta(days=days)
        revoked = pki.revocations(end=now + 2.5 * DAY, begins=begun)
        found = list(oddities(pki.credentials(default=lasting(99 * DAY), revoked=revoked)))
        assert len(found) == codes and all("expires soon" in odd for odd in found)
