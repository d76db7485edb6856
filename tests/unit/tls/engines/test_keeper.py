"""What a pool's own program consists of."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from s6tls.tls.credentials import Credentials, NamedFile, SessionOptions, SniLevel
from tests.support import pki
from tests.support.fresh import builder
from tests.support.fresh.reporter import report
from tests.support.tls.memory import MANDATORY

NEEDED = {
    "accessrules": "identifiers stamp text",
    "helper": "reply texts",
    "pki": "diagnosis files judgement names ocsp parsing",
    "posix": "backoff descriptors exitcodes fdpass identity jail layout reactor stderr",
    "posix.linux": "capabilities landlock libc seccomp syscalls trap",
    "tls": "credentials delayed ends library owner parameters policy pump session states variables wire",
    "tls.context": "algorithms build clients errors oddities stapling tickets",
    "tls.engines": "account engine keeper taking warmup",
    "ucspi": "hearsay image log minutely spawn",
    "ucspi.status": "files",
}
"""All that an engine has of this project, beside what starts it: no command line, no options, no rules, no server."""


def test_it_imports_what_sessions_need_and_no_more() -> None:
    modules = report("s6tls.tls.engines.keeper")["modules"]
    assert isinstance(modules, list)
    ours = {".".join(words[1:]) for words in (name.split(".") for name in modules) if words[0] == "s6tls"}
    assert ours - set(NEEDED) == {f"{room}.{name}" for room, names in NEEDED.items() for name in names.split()}
    assert not {"argparse", "asyncio", "json", "logging", "ssl", "subprocess", "tempfile"} & set(modules)


def _stapled(rsa_key: bool) -> Credentials:
    pair = pki.pair(by="ours/issuing", rsa_key=rsa_key)
    return Credentials((pki.keypair(pair, response=NamedFile("OCSPFILE /response", pki.ocsp_response(pair))),))


CLIENTS = (pki.root("clients"),)
NAMES = ((b"a.example", pki.pair("a.example")), (b"*", pki.pair("*.example")))
CASES = {
    "ECDSA": (pki.credentials(default=pki.pair()), SessionOptions()),
    "RSA": (pki.credentials(default=pki.pair(rsa_key=True)), SessionOptions()),
    "RSA-PSS": (pki.credentials(default=pki.pss()), SessionOptions()),
    "Ed25519": (pki.credentials(default=pki.self_made(ed25519.Ed25519PrivateKey.generate())), SessionOptions()),
    "DER": (pki.credentials(default=pki.as_der(pki.pair())), SessionOptions()),
    "OCSP": (_stapled(rsa_key=False), SessionOptions()),
    "OCSP, RSA": (_stapled(rsa_key=True), SessionOptions()),
    "authorities": (pki.credentials(default=pki.pair(), trusted=CLIENTS), MANDATORY),
    "lists": (
        pki.credentials(default=pki.pair(), trusted=CLIENTS, revoked=pki.revocations(by="clients")),
        MANDATORY,
    ),
    "names": (pki.credentials(*NAMES), SessionOptions(sni_level=SniLevel.MANDATORY)),
    "protocols": (pki.credentials(default=pki.pair()), SessionOptions(alpn=(b"h2",))),
}


@pytest.mark.parametrize("what", CASES)
def test_nothing_is_imported_once_the_files_have_been_read(what: str) -> None:
    """The ids of an engine may not be able to read the interpreter's modules."""
    assert builder.failure(*CASES[what]) == ""
