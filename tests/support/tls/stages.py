"""What the stages of TLS hand a connection to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from s6tls.tls.ends import Descriptors
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi.image import StageExit

TLS = {
    b"KEYFILE": b"/key",
    b"CERTFILE": b"/cert",
    b"KEYFILE:a.example": b"/key",
    b"CERTFILE:a.example": b"/cert",
    b"CADIR": b"/cas",
    b"CAFILE": b"/ca",
    b"TLS_UID": b"1",
    b"TLS_GID": b"1",
}
OTHERS = {b"PROTO": b"TCP", b"TCPREMOTEIP": b"192.0.2.1", b"TCPREMOTEPORT": b"4711", b"SSL_PEER_CERT_HASH": b"forged"}


@dataclass
class Holder:
    """Keeps what is submitted, for the test to play the engine; or refuses."""

    refuse: bool = False
    gives_accounts: bool = False
    submitted: list[tuple[Descriptors, str]] = field(default_factory=list)

    def prepare(self, parameters: TlsParameters) -> None:
        """Nothing is needed."""

    def submit(self, parameters: TlsParameters, fds: Descriptors, peer: str) -> Callable[[], int]:
        if self.refuse:
            raise StageExit("s6-tlsd-io", 96, "no")
        self.submitted.append((fds, peer))
        return lambda: 97

    def expect_end(self, notified: int) -> None:
        """The test ends what it plays."""

    def notify(self, data: bytes) -> None:
        os.write(self.submitted[0][0].numbers[-1], data)

    def end(self) -> None:
        for fds, _ in self.submitted:
            fds.close()
        self.submitted.clear()
