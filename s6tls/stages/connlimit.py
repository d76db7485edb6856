"""The stage of s6-connlimit: limits on one client's connections, which a rule may set.

``${PROTO}CONNNUM`` says how many connections the client already has, ``${PROTO}CONNMAX`` how many it may have, and
``${PROTO}CONNRATE`` how often it may connect.
"""

from __future__ import annotations

from dataclasses import dataclass

from s6tls.accessrules import AddressError
from s6tls.accessrules.keys import address_text, client_address
from s6tls.accessrules.text import shown
from s6tls.posix.exitcodes import ExitCode
from s6tls.stages.preparation import Preparation
from s6tls.ucspi.image import ClientFailure, Image, StageExit
from s6tls.ucspi.ledger import Client
from s6tls.ucspi.rate import Rate
from s6tls.ucspi.rulerates import RuleRates


@dataclass(frozen=True)
class ConnLimit:
    """Refuse a client that comes too often, or already has its maximum of connections.

    `rates` is what remembers clients from one connection to the next, None where nothing does.
    """

    rates: RuleRates | None = None
    program: str = "s6-connlimit"

    def prepare(self, preparation: Preparation) -> None:
        """Read the limits that the environment has for all clients.  Raises StageExit (100) for one that is none."""
        image = Image(preparation.env, [])
        for name, read in ((b"TCPCONNRATE", self._rate), (b"TCPCONNMAX", self._number)):
            if name in image.env:
                read(image, name)

    def apply(self, image: Image) -> None:
        """Raise StageExit: 1 over a limit, 100 for a missing or invalid variable, or a rate that nobody can heed."""
        proto = image.env.get(b"PROTO")
        if proto is None:
            raise StageExit(self.program, ExitCode.USAGE, "PROTO not set")
        if not proto:
            raise StageExit(self.program, ExitCode.USAGE, "empty PROTO")
        if proto + b"CONNRATE" in image.env:
            self._check_rate(image, proto)
        if proto + b"CONNMAX" in image.env:
            self._check_number(image, proto)

    def _check_rate(self, image: Image, proto: bytes) -> None:
        """The refusal has no message of its own: the rates tell of it, once a minute for all."""
        name = proto + b"CONNRATE"
        rate = self._rate(image, name)
        if self.rates is None:
            raise StageExit(self.program, ExitCode.USAGE, f"unable to heed {shown(name)} outside a long-lived server")
        if not self.rates.admit(self._client(image, proto), rate, image.rule):
            raise StageExit(self.program, ExitCode.DENIED)

    def _rate(self, image: Image, name: bytes) -> Rate:
        try:
            return Rate.parse(self._value(image, name))
        except ValueError as error:
            raise StageExit(self.program, ExitCode.USAGE, f"invalid {shown(name)}: {error}") from error

    def _client(self, image: Image, proto: bytes) -> Client:
        try:
            address = address_text(client_address(self._value(image, proto + b"REMOTEIP")))
        except AddressError as error:
            raise StageExit(self.program, ExitCode.USAGE, f"invalid {shown(proto)}REMOTEIP") from error
        return Client(address.decode(), self._number(image, proto + b"REMOTEPORT"))

    def _check_number(self, image: Image, proto: bytes) -> None:
        number = self._number(image, proto + b"CONNNUM")
        maximum = self._number(image, proto + b"CONNMAX")
        if number >= maximum:
            message = f"number of connections from this client limited to {maximum}"
            raise ClientFailure(self.program, ExitCode.DENIED, message)

    def _number(self, image: Image, name: bytes) -> int:
        value = self._value(image, name)
        if not (value.isdigit() and len(value) <= 10):
            raise StageExit(self.program, ExitCode.USAGE, f"invalid {shown(name)}")
        return int(value)

    def _value(self, image: Image, name: bytes) -> bytes:
        value = image.env.get(name)
        if value is None:
            raise StageExit(self.program, ExitCode.USAGE, f"{shown(name)} not set")
        return value
