"""Lint calls a file an error if, and only if, a server refuses to serve with it."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.lint import keypairs
from s6tls.audit.lint.findings import Severity
from s6tls.tls.context import BadConfiguration, build
from s6tls.tls.credentials import CredentialPaths
from s6tls.ucspi.image import StageExit
from tests.support import pki
from tests.support.tls.memory import MANDATORY

# Servers take these, and refuse clients for it, or are refused by them.
LATER = ("certificate-expired", "certificate-not-yet-valid", "crl-expired", "crl-not-yet-valid", "certificate-weak")
LIMIT = 4 * 2**20


class Place:
    """What a rule says, with all that is good; a case changes some of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {name: os.fsencode(path / name) for name in ("KEYFILE", "CERTFILE", "CAFILE", "CADIR", "CRLFILE")}
        (path / "CADIR").mkdir()
        pair = pki.pair()
        for name, data in (
            ("KEYFILE", pair.key),
            ("CERTFILE", pair.chain),
            ("CAFILE", pki.root()),
            ("CADIR/one.pem", pki.root("others")),
            ("CRLFILE", pki.revocations()),
        ):
            (path / name).write_bytes(data)

    def both(self) -> tuple[str, str]:
        """Return why a server refuses, and why lint calls it an error; "" for each that does not."""
        named = {name.encode(): value for name, value in self.env.items()}
        return _server_says(named), _lint_says(named)


def _server_says(env: dict[bytes, bytes]) -> str:
    try:
        build(CredentialPaths.from_environment(env, MANDATORY).read(), MANDATORY)
    except (StageExit, BadConfiguration) as error:
        return str(error)
    return ""


def _lint_says(env: dict[bytes, bytes]) -> str:
    contents = LoadedRules.of([(b"ip4/0.0.0.0_0", Rule(True, tuple(env.items())))])
    errors = [found for found in keypairs.findings(contents, 0) if found.severity is Severity.ERROR]
    return "; ".join(found.message for found in errors if found.code not in LATER)


Change = Callable[[Place], object]


def writes(name: str, make: Callable[[], bytes]) -> Change:
    return lambda place: (place.path / name).write_bytes(make())


def both(make: Callable[[], pki.Pair]) -> Change:
    def change(place: Place) -> None:
        pair = make()
        (place.path / "KEYFILE").write_bytes(pair.key)
        (place.path / "CERTFILE").write_bytes(pair.chain)

    return change


def second(make: Callable[[], pki.Pair]) -> Change:
    def change(place: Place) -> None:
        place.env["KEYFILE2"], place.env["CERTFILE2"] = make().write(place.path, "second")

    return change


def response(make: Callable[[], bytes]) -> Change:
    def change(place: Place) -> None:
        both(lambda: pki.pair(by="ours/issuing"))(place)
        place.env["OCSPFILE"] = os.fsencode(place.path / "OCSPFILE")
        (place.path / "OCSPFILE").write_bytes(make())

    return change


def of(name: str, act: Callable[[Path], object]) -> Change:
    def change(place: Place) -> None:
        (place.path / name).unlink(missing_ok=True)
        act(place.path / name)

    return change


def without(*names: str) -> Change:
    def change(place: Place) -> None:
        for name in names:
            del place.env[name]

    return change


def empties(directory: str, *names: str) -> Change:
    """Leave nothing in a directory, and the rule without these variables."""

    def change(place: Place) -> None:
        for file in (place.path / directory).iterdir():
            file.unlink()
        without(*names)(place)

    return change


def plain(key: ed448.Ed448PrivateKey | x25519.X25519PrivateKey | dsa.DSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def of_another_kind() -> pki.Pair:
    key = ed448.Ed448PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ed448")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day).sign(key, None)
    return pki.Pair(plain(key), made.public_bytes(Encoding.PEM))


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def old_fashioned(pem: bytes) -> bytes:
    """The same certificate, with the authority's name in Latin 1, as some still have."""
    return der(pem).replace(b"\x0c\x04ours", b"\x14\x04\xfcrs ")


def without_year() -> bytes:
    """An authority's certificate with a date that one of the libraries cannot read."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ours")])
    begin, end = (datetime.datetime(year, 12, 31, 23, 59, 59, tzinfo=datetime.UTC) for year in (2020, 2999))
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, end).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.DER).replace(b"29991231235959Z", b"00001231235959Z")


def unending(path: Path) -> None:
    path.symlink_to("/dev/zero")


def crowd(path: Path, count: int) -> None:
    for number in range(count):
        path.with_name(f".{number}").touch()


BEGUN = b"-----BEGIN X509 CRL-----\n"
CASES: dict[str, tuple[bool, Change]] = {
    "all good": (True, lambda place: None),
    # Keys
    "RSA": (True, both(lambda: pki.pair(rsa_key=True))),
    "DER": (True, both(lambda: pki.as_der(pki.pair()))),
    "a chain": (True, both(pki.pair_by_intermediate)),
    "both in a file": (True, writes("KEYFILE", lambda: pki.pair().chain + pki.pair().key)),
    "an empty key": (False, writes("KEYFILE", bytes)),
    "noise for a key": (False, writes("KEYFILE", lambda: b"\0\xff" * 50)),
    "a key cut": (False, writes("KEYFILE", lambda: pki.pair().key[:60])),
    "a key with a password": (
        False,
        writes("KEYFILE", lambda: pki.key_bytes(ec.generate_private_key(ec.SECP256R1()), password=b"secret")),
    ),
    "another's key": (False, writes("KEYFILE", lambda: pki.pair("another.example").key)),
    "a key of another kind than the certificate": (False, writes("KEYFILE", lambda: pki.pair(rsa_key=True).key)),
    "DSA": (False, writes("KEYFILE", lambda: plain(dsa.generate_private_key(1024)))),
    "Ed448": (False, both(of_another_kind)),
    "X25519": (False, writes("KEYFILE", lambda: plain(x25519.X25519PrivateKey.generate()))),
    "RSA for PSS only": (True, both(pki.pss)),
    "RSA for PSS only, with the certificate of another": (False, writes("KEYFILE", lambda: pki.pss().key)),
    "a second pair": (True, second(lambda: pki.pair(rsa_key=True))),
    "a second pair for PSS only": (True, second(pki.pss)),
    "a second pair of the same kind": (False, second(lambda: pki.pair("another.example"))),
    "a second key and another certificate": (
        False,
        second(lambda: pki.Pair(pki.pair(rsa_key=True).key, pki.pss().chain)),
    ),
    "noise for a second key": (False, second(lambda: pki.Pair(b"noise", pki.pair(rsa_key=True).chain))),
    "noise for a second certificate": (False, second(lambda: pki.Pair(pki.pair(rsa_key=True).key, b"noise"))),
    "a second key without a file": (False, lambda place: place.env.update(KEYFILE2=b"/none", CERTFILE2=b"/none")),
    "RSA too short": (False, both(lambda: pki.self_made(rsa.generate_private_key(65537, 1024)))),
    "a curve too short": (False, both(lambda: pki.self_made(ec.generate_private_key(ec.SECP192R1())))),
    # OCSP responses, which no server needs
    "a response": (True, response(lambda: pki.ocsp_response(pki.pair(by="ours/issuing")))),
    "an old response": (True, response(lambda: pki.ocsp_response(pki.pair(by="ours/issuing"), days=-0.5))),
    "noise for a response": (True, response(lambda: b"noise")),
    "no response": (True, lambda place: place.env.update(OCSPFILE=b"/none")),
    # Files
    "no key": (False, of("KEYFILE", lambda path: None)),
    "a directory for a key": (False, of("KEYFILE", Path.mkdir)),
    "a FIFO for a key": (False, of("KEYFILE", os.mkfifo)),
    "a device for a certificate": (False, of("CERTFILE", unending)),
    "a link to itself": (False, of("CERTFILE", lambda path: path.symlink_to(path.name))),
    "the largest file": (True, lambda place: os.truncate(place.path / "CAFILE", LIMIT)),
    "a file too large": (False, lambda place: os.truncate(place.path / "CAFILE", LIMIT + 1)),
    "a path with a NUL": (False, lambda place: place.env.update(CRLFILE=b"/a\0b")),
    # Certificates
    "an empty certificate": (False, writes("CERTFILE", bytes)),
    "a key for a certificate": (False, writes("CERTFILE", lambda: pki.pair().key)),
    "half an intermediate": (False, writes("CERTFILE", lambda: pki.pair().chain + pki.root()[:90])),
    "an intermediate whose key is too short": (
        False,
        writes(
            "CERTFILE",
            lambda: pki.pair().chain + pki.self_made(rsa.generate_private_key(65537, 1024)).chain,
        ),
    ),
    "a garbled name": (False, writes("CERTFILE", lambda: pki.garbled(der(pki.pair().chain)))),
    "a name in Latin 1": (True, writes("CERTFILE", lambda: old_fashioned(pki.pair().chain))),
    # Authorities
    "a CA that is no root": (True, writes("CAFILE", lambda: pki.root("ours/issuing"))),
    "a CA in DER": (True, writes("CAFILE", lambda: der(pki.root()))),
    "a CA with a garbled name": (False, writes("CAFILE", lambda: pki.garbled(der(pki.root())))),
    "a CA with a name in Latin 1": (False, writes("CAFILE", lambda: old_fashioned(pki.root()))),
    "a CA without a year": (False, writes("CAFILE", without_year)),
    "a CA whose key is too short": (
        True,
        writes("CAFILE", lambda: pki.self_made(rsa.generate_private_key(65537, 1024)).chain),
    ),
    "half a CA behind another": (False, writes("CAFILE", lambda: pki.root() + pki.root("others")[:90])),
    "noise for a CA": (False, writes("CAFILE", lambda: b"noise")),
    "an empty CA file": (False, writes("CAFILE", bytes)),
    "no CADIR": (True, without("CADIR")),
    "no CAFILE": (True, without("CAFILE")),
    "an empty CADIR beside a CAFILE": (True, empties("CADIR")),
    "an empty CADIR alone": (False, empties("CADIR", "CAFILE")),
    "CADIR is a file": (False, lambda place: place.env.update(CADIR=place.env["CAFILE"])),
    "CADIR is not there": (False, lambda place: place.env.update(CADIR=b"/nowhere")),
    "noise in CADIR": (False, writes("CADIR/two.pem", lambda: b"noise")),
    "hidden noise in CADIR": (True, writes("CADIR/.two.pem", lambda: b"noise")),
    "a hashed list in CADIR": (True, writes("CADIR/0123abcd.r0", lambda: b"noise")),
    "a directory in CADIR": (True, of("CADIR/more", Path.mkdir)),
    "a FIFO in CADIR": (True, of("CADIR/fifo", os.mkfifo)),
    "a link to nothing in CADIR": (True, of("CADIR/link", lambda path: path.symlink_to("nowhere"))),
    "as many files as may be in CADIR": (True, of("CADIR/more", lambda path: crowd(path, 4095))),
    "too many files in CADIR": (False, of("CADIR/more", lambda path: crowd(path, 4096))),
    # Revocation lists
    "no list": (True, without("CRLFILE")),
    "a list in DER": (True, writes("CRLFILE", lambda: pki.revocations(der=True))),
    "two lists": (True, writes("CRLFILE", lambda: pki.revocations() + b"between\n" + pki.revocations(by="others"))),
    "an old list": (True, writes("CRLFILE", lambda: pki.revocations(days=-1))),
    "an empty list": (False, writes("CRLFILE", bytes)),
    "half a list": (False, writes("CRLFILE", lambda: pki.revocations()[:-30])),
    "a list, and one begun": (False, writes("CRLFILE", lambda: pki.revocations() + BEGUN)),
    "a list within a list": (False, writes("CRLFILE", lambda: BEGUN + pki.revocations())),
    "a list, and one whose first line is bent": (
        False,
        writes("CRLFILE", lambda: pki.revocations() + pki.revocations().replace(b"CRL-----\n", b"CRL ----\n", 1)),
    ),
    "a list with a garbled name": (False, writes("CRLFILE", lambda: pki.garbled(pki.revocations(der=True)))),
    "a CA for a list": (False, writes("CRLFILE", pki.root)),
    "a list with something behind it": (False, writes("CRLFILE", lambda: pki.revocations(der=True) + b"x")),
}


@pytest.mark.parametrize("case", CASES)
def test_lint_and_server_agree(case: str, tmp_path: Path) -> None:
    good, change = CASES[case]
    place = Place(tmp_path)
    change(place)
    server, lint = place.both()
    assert (server == "", lint == "") == (good, good), (server, lint)


def _originals() -> dict[str, list[bytes]]:
    pair = pki.as_der(pki.pair())
    return {
        "KEYFILE": [pki.pair().key, pair.key],
        "CERTFILE": [pki.pair_by_intermediate().chain, pair.chain],
        "CAFILE": [pki.root() + pki.root("others"), der(pki.root())],
        "CADIR/one.pem": [pki.root()],
        "CRLFILE": [pki.revocations() + pki.revocations(by="others"), pki.revocations(der=True)],
    }


ORIGINALS = _originals()


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file in which something has been overwritten, cut out, doubled or put in."""
    name = draw(st.sampled_from(sorted(ORIGINALS)))
    data = draw(st.sampled_from(ORIGINALS[name]))
    for _ in range(draw(st.integers(1, 2))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 1, 2, 30])))
        data = data[:start] + draw(st.binary(max_size=2) | st.just(data[start:end] * 2)) + data[end:]
    return name, data


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_lint_and_server_agree_about_damaged_files(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, bytes]
) -> None:
    place = Place(tmp_path_factory.mktemp("damaged"))
    name, data = case
    (place.path / name).write_bytes(data)
    server, lint = place.both()
    assert (server == "") == (lint == ""), (server, lint)
