"""What a server warns of at once, and later."""

from __future__ import annotations

import datetime

from s6tls.tls.context.oddities import expiries, oddities
from tests.support import pki

DAY = datetime.timedelta(days=1)


def said_later(period: datetime.timedelta) -> list[tuple[int, str]]:
    """In how many days something is said, and what."""
    now = datetime.datetime.now(datetime.UTC).timestamp()
    found = expiries(pki.credentials(default=pki.lasting(period)))
    return [
        (round((moment - now) / DAY.total_seconds()), what.partition("server.example ")[2][:11])
        for moment, what in found
    ]


def test_what_will_expire_is_said_in_time() -> None:
    assert said_later(90 * DAY) == [(76, "expires soo"), (90, "has expired")]
    assert said_later(9 * DAY) == [(9, "has expired")]
    assert said_later(-DAY / 2) == []


def test_a_certificate_for_ever() -> None:
    """RFC 5280 has the last second of the year 9999 for that."""
    period = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC) - datetime.datetime.now(datetime.UTC)
    assert len(said_later(period)) == 2
    assert list(oddities(pki.credentials(default=pki.lasting(period)))) == []


def test_a_list_of_a_few_days_is_no_oddity_until_its_last_quarter() -> None:
    now = datetime.datetime.now(datetime.UTC)
    for days, codes in ((-6, 0), (-9, 1)):
        begun = now + datetime.timedelta(days=days)
        revoked = pki.revocations(end=now + 2.5 * DAY, begins=begun)
        found = list(oddities(pki.credentials(default=pki.lasting(99 * DAY), revoked=revoked)))
        assert len(found) == codes and all("expires soon" in odd for odd in found)
