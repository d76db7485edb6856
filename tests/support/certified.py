"""A key and a certificate for the commands that speak TLS, and clients that trust it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certified:
    """A server's files, as environment variables, and the other side of them."""

    def __init__(self, place: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.key, self.certificate = place / "key.pem", place / "cert.pem"
        issued.private_key_pem.write_to_path(self.key)
        for pem in issued.cert_chain_pems:
            pem.write_to_path(self.certificate, append=True)
        self.env = {"KEYFILE": str(self.key), "CERTFILE": str(self.certificate)}
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)
