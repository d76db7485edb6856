"""Keys, certificates, authorities, revocation lists and OCSP responses: read and judged here, for servers and for lint.

So what one of them takes, the other takes.  `files` gets the bytes, and needs no TLS library; `parsing` makes objects
of them, and tries them with the library that will serve them; `ocsp` judges responses as clients do.
"""

from __future__ import annotations

import enum


class Kind(enum.Enum):
    """What is the matter: the file as such, or what stands in it."""

    MISSING = enum.auto()
    UNREADABLE = enum.auto()
    KEY = enum.auto()
    CERTIFICATE = enum.auto()
    CRL = enum.auto()
    KEYPAIR = enum.auto()
    OCSP = enum.auto()


REMEDIES = {
    Kind.MISSING: "put it there, or correct the path",
    Kind.UNREADABLE: "see to its owner, its permissions and its kind",
}
"""What to do about a file as such."""


class Unusable(Exception):
    """Something that a server cannot use: `what` it is, and `why`; the message says both."""

    def __init__(self, kind: Kind, what: str, why: str) -> None:
        super().__init__(f"unable to {'use' if kind in (Kind.KEYPAIR, Kind.OCSP) else 'read'} {what}: {why}")
        self.kind, self.what, self.why = kind, what, why
