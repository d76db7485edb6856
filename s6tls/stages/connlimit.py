"""The stage of s6-connlimit: a limit on one client's connections, which a rule may set.

``${PROTO}CONNNUM`` says how many connections the client already has,
``${PROTO}CONNMAX`` how many it may have.
"""

from __future__ import annotations

from dataclasses import dataclass

from s6tls.accessrules.text import shown
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.image import Image, StageExit


@dataclass(frozen=True)
class ConnLimit:
    """Refuse a client that already has its maximum of connections."""

    program: str = "s6-connlimit"

    def apply(self, image: Image) -> None:
        """Raise StageExit: 1 over the limit, 100 for a missing or invalid variable."""
        proto = image.env.get(b"PROTO")
        if proto is None:
            raise StageExit(self.program, ExitCode.USAGE, "PROTO not set")
        if not proto:
            raise StageExit(self.program, ExitCode.USAGE, "empty PROTO")
        if proto + b"CONNMAX" not in image.env:
            return
        number = self._number(image, proto + b"CONNNUM")
        maximum = self._number(image, proto + b"CONNMAX")
        if number >= maximum:
            raise StageExit(
                self.program, ExitCode.DENIED, "number of connections from this client limited to " + str(maximum)
            )

    def _number(self, image: Image, name: bytes) -> int:
        value = image.env.get(name)
        if value is None:
            raise StageExit(self.program, ExitCode.USAGE, f"{shown(name)} not set")
        if not (value.isdigit() and len(value) <= 10):
            raise StageExit(self.program, ExitCode.USAGE, f"invalid {shown(name)}")
        return int(value)
