"""The stage of s6-connlimit: a limit on one client's connections, which a rule may set.

``${PROTO}CONNNUM`` says how many connections the client already has,
``${PROTO}CONNMAX`` how many it may have.
"""

from __future__ import annotations

from dataclasses import dataclass

from s6tls.accessrules.text import shown
from s6tls.ucspi.image import Image, Refused


@dataclass(frozen=True)
class ConnLimit:
    """Refuse a client that already has its maximum of connections."""

    program: str = "s6-connlimit"

    def apply(self, image: Image) -> None:
        """Raise Refused: 1 over the limit, 100 for a missing or invalid variable."""
        proto = image.env.get(b"PROTO")
        if proto is None:
            raise Refused(self.program, 100, "PROTO not set")
        if not proto:
            raise Refused(self.program, 100, "empty PROTO")
        if proto + b"CONNMAX" not in image.env:
            return
        number = self._number(image, proto + b"CONNNUM")
        maximum = self._number(image, proto + b"CONNMAX")
        if number >= maximum:
            raise Refused(self.program, 1, "number of connections from this client limited to " + str(maximum))

    def _number(self, image: Image, name: bytes) -> int:
        value = image.env.get(name)
        if value is None:
            raise Refused(self.program, 100, f"{shown(name)} not set")
        if not (value.isdigit() and len(value) <= 10):
            raise Refused(self.program, 100, f"invalid {shown(name)}")
        return int(value)
