"""The name servers that clients are looked up with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lookups import SILENT
from tests.support.nameserver import Asked, Puppet, address_of, dnsmasq, reverse


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    """A dnsmasq with names for a few clients."""
    names = {
        "127.0.0.1": "here.test",
        "127.9.0.1": "one.test",
        "127.9.0.2": "two.office.test",
        "127.9.0.3": "thief.office.test",
        "127.9.0.5": "liar.test",
    }
    pointers = [f"--ptr-record={reverse(address)},{name}" for address, name in names.items()]
    with dnsmasq(*pointers, "--address=/one.test/127.9.0.1", "--address=/liar.test/127.9.0.1") as address:
        yield address


@pytest.fixture
def puppet() -> Iterator[Puppet]:
    """A name server that calls each client after its last number, and never answers for some."""

    def script(asked: Asked) -> bytes | None:
        address = address_of(asked.name)
        return None if address.startswith(SILENT) else asked.names(f"n{address.rpartition('.')[2]}.test")

    with Puppet(script) as started:
        yield started
