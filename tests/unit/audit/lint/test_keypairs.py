"""Keys, certificates, authorities and revocation lists that rules name, as lint finds them."""

from __future__ import annotations

import datetime
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.lint import keypairs
from s6tls.audit.lint.findings import Finding
from tests.support import pki

NOW = datetime.datetime.now(datetime.UTC)


def loaded(*rules: Rule) -> LoadedRules:
    return LoadedRules.of((b"ip4/10.0.0.%d_32" % number, rule) for number, rule in enumerate(rules))


def keypair_findings(**env: bytes | Path) -> list[Finding]:
    """Findings about a rule with these variables; two underscores stand for a colon."""
    return within(30, env)


def within(days: int, env: Mapping[str, bytes | Path]) -> list[Finding]:
    values = tuple((name.replace("__", ":").encode(), os.fsencode(value)) for name, value in env.items())
    return list(keypairs.findings(loaded(Rule(True, values)), days, now=NOW))


def codes(findings: list[Finding]) -> list[str]:
    return [f"{finding.severity.word} {finding.code}" for finding in findings]


class Place:
    """A directory with files for rules to name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str, data: bytes, mode: int = 0o600) -> Path:
        found = self.path / name
        found.parent.mkdir(exist_ok=True)
        found.write_bytes(data)
        found.chmod(mode)
        return found

    def pair(self, pair: pki.Pair) -> dict[str, Path]:
        return {"KEYFILE": self.file("key", pair.key), "CERTFILE": self.file("cert", pair.chain)}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    "pair",
    [
        pki.pair(),
        pki.pair(rsa_key=True),
        pki.as_der(pki.pair()),
        pki.as_der(pki.pair(rsa_key=True)),
        pki.pair_by_intermediate(),
    ],
    ids=["ECDSA", "RSA", "DER", "RSA in DER", "chain"],
)
def test_pairs_that_serve(place: Place, pair: pki.Pair) -> None:
    assert keypair_findings(**place.pair(pair)) == []


def test_pairs_for_server_names(place: Place) -> None:
    one, other = place.pair(pki.pair("one.example")), pki.pair("other.example")
    other_key, other_certificate = place.file("2.key", other.key), place.file("2.crt", other.chain)
    good = {"KEYFILE__a": one["KEYFILE"], "CERTFILE__a": one["CERTFILE"], "KEYFILE": other_key}
    assert keypair_findings(**good, CERTFILE=other_certificate) == []
    (found,) = keypair_findings(**good, CERTFILE=one["CERTFILE"])
    assert (found.code, found.rule) == ("keypair-mismatch", b"ip4/10.0.0.0_32")
    assert f"KEYFILE {other_key}" in found.message and f"CERTFILE {one['CERTFILE']}" in found.message


def certificate(begins: datetime.datetime, ends: datetime.datetime, name: str = "server.example") -> pki.Pair:
    key = ed25519.Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, None)
    )
    return pki.Pair(pki.key_bytes(key), made.public_bytes(Encoding.PEM))


DAY = datetime.timedelta(days=1)


@pytest.mark.parametrize(
    ("begins", "ends", "expected"),
    [
        (-2, 31, []),
        (-2, 29, ["warning certificate-expires"]),
        (-2, -1, ["error certificate-expired"]),
        (1, 99, ["error certificate-not-yet-valid"]),
    ],
)
def test_certificates_have_their_time(place: Place, begins: int, ends: int, expected: list[str]) -> None:
    pair = certificate(NOW + begins * DAY, NOW + ends * DAY)
    found = keypair_findings(**place.pair(pair))
    assert codes(found) == expected
    assert all("CN=server.example" in one.message for one in found)


def test_days_say_what_is_soon(place: Place) -> None:
    files = place.pair(certificate(NOW - DAY, NOW + 10 * DAY))
    assert codes(within(9, files)) == []
    assert codes(within(11, files)) == ["warning certificate-expires"]


def test_every_certificate_of_a_chain_counts(place: Place) -> None:
    leaf, old = certificate(NOW - DAY, NOW + 99 * DAY), certificate(NOW - 9 * DAY, NOW - DAY, "old")
    found = keypair_findings(**place.pair(pki.Pair(leaf.key, leaf.chain + old.chain)))
    assert codes(found) == ["error certificate-expired", "warning chain-unrelated"]
    assert all("CN=old" in one.message for one in found)


BAD_KEYS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "bad-key"),
    "noise": (lambda: b"\0\xff" * 50, "bad-key"),
    "broken PEM": (lambda: pki.pair().key[:60], "bad-key"),
    "locked": (lambda: pki.key_bytes(ec.generate_private_key(ec.SECP256R1()), password=b"secret"), "bad-key"),
    "DSA": (lambda: pki.key_bytes(dsa.generate_private_key(1024)), "bad-key"),
    "another": (lambda: pki.pair("another.example").key, "keypair-mismatch"),
    "a certificate": (lambda: pki.pair().chain, "bad-key"),
    "too large": (lambda: b" " * (4 * 2**20 + 1), "file-unreadable"),
}


@pytest.mark.parametrize("kind", BAD_KEYS)
def test_keys_that_do_not_serve(place: Place, kind: str) -> None:
    data, code = BAD_KEYS[kind]
    files = place.pair(pki.Pair(data(), pki.pair().chain))
    assert codes(keypair_findings(**files)) == [f"error {code}"]


@pytest.mark.parametrize("data", [b"", b"\x30\x82", b"-----BEGIN CERTIFICATE-----\n", pki.pair().key])
def test_certificates_that_do_not_serve(place: Place, data: bytes) -> None:
    files = place.pair(pki.Pair(pki.pair().key, data))
    assert codes(keypair_findings(**files)) == ["error bad-certificate"]


def test_files_that_are_not_there_or_not_files(place: Place) -> None:
    files = place.pair(pki.pair())
    fifo = place.path / "fifo"
    os.mkfifo(fifo)
    for path, code in ((place.path / "none", "file-missing"), (files["KEYFILE"] / "x", "file-missing")):
        assert codes(keypair_findings(**{**files, "KEYFILE": path})) == [f"error {code}"]
    for path in (fifo, place.path, Path("/dev/zero")):
        assert codes(keypair_findings(**{**files, "KEYFILE": path})) == ["error file-unreadable"]
    assert codes(keypair_findings(CERTFILE=b"/\n\xff")) == ["error file-missing"]
    assert "/\\x0a\\xff" in keypair_findings(CERTFILE=b"/\n\xff")[0].message
    assert codes(keypair_findings(CERTFILE=b"/a\0b")) == ["error file-unreadable"]
    assert codes(keypair_findings(CERTFILE=b"/" + b"x" * 4000)) == ["error file-unreadable"]


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/tty", "/dev/full", "/dev/stdin", "/proc/self/mem", "/dev"])
def test_devices_are_not_read(device: str) -> None:
    for variable in ("KEYFILE", "CERTFILE", "CAFILE", "CRLFILE"):
        assert codes(keypair_findings(**{variable: device.encode()}))[0] in ("error file-unreadable", "error bad-key")


def test_relative_paths_are_not_looked_at() -> None:
    assert codes(keypair_findings(CERTFILE=b"cert.pem", KEYFILE=b"key.pem")) == ["warning relative-path"] * 2


def test_empty_values_name_nothing() -> None:
    assert keypair_findings(CERTFILE=b"", CADIR=b"", CRLFILE=b"") == []


def test_a_key_for_everybody_to_read(place: Place) -> None:
    files = place.pair(pki.pair())
    files["KEYFILE"].chmod(stat.S_IRUSR | stat.S_IROTH)
    assert codes(keypair_findings(**files)) == ["warning key-exposed"]


def test_authorities(place: Place) -> None:
    good, old = pki.root(), certificate(NOW - 9 * DAY, NOW - DAY, "old").chain
    assert keypair_findings(CAFILE=place.file("good", good)) == []
    assert codes(keypair_findings(CAFILE=place.file("both", good + old))) == ["warning certificate-expired"]
    assert codes(keypair_findings(CAFILE=place.file("old", old))) == ["error certificate-expired"]
    assert codes(keypair_findings(CAFILE=place.file("noise", b"noise"))) == ["error bad-certificate"]


def test_directories_of_authorities(place: Place) -> None:
    cas = place.path / "cas"
    place.file("cas/one.pem", pki.root())
    place.file("cas/0123abcd.r0", b"a CRL")
    place.file("cas/.hidden", b"noise")
    (cas / "sub").mkdir()
    assert keypair_findings(CADIR=cas) == []
    place.file("cas/two.pem", b"noise")
    (found,) = keypair_findings(CADIR=cas)
    assert found.code == "bad-certificate" and "two.pem" in found.message
    assert codes(keypair_findings(CADIR=cas / "sub")) == ["error bad-certificate"]
    assert codes(keypair_findings(CADIR=cas / "none")) == ["error file-missing"]
    assert codes(keypair_findings(CADIR=cas / "one.pem")) == ["error file-missing"]


@pytest.mark.parametrize("der", [False, True])
def test_revocation_lists(place: Place, der: bool) -> None:
    def judged(days: float) -> list[str]:
        return codes(keypair_findings(CRLFILE=place.file("crl", pki.revocations(days=days, der=der))))

    assert judged(99) == []
    assert judged(9) == ["warning crl-expires"]
    assert judged(-1) == ["error crl-expired"]


def test_a_list_of_tomorrow(place: Place) -> None:
    key = load_pem_private_key(pki.authority("ours").private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(pki.root()).subject
    made = x509.CertificateRevocationListBuilder(issuer, NOW + DAY, NOW + 99 * DAY).sign(key, hashes.SHA256())
    (found,) = keypair_findings(CRLFILE=place.file("crl", made.public_bytes(Encoding.PEM)))
    assert (found.code, found.severity.word) == ("crl-not-yet-valid", "error")


def test_an_authority_that_the_tls_library_finds_too_weak(place: Place) -> None:
    weak = pki.self_signed(rsa.generate_private_key(65537, 1024)).public_bytes(Encoding.PEM)
    assert codes(keypair_findings(CAFILE=place.file("weak", weak))) == ["error certificate-weak"]
    assert codes(keypair_findings(CAFILE=place.file("both", weak + pki.root()))) == ["warning certificate-weak"]


def test_several_revocation_lists_in_a_file(place: Place) -> None:
    lists = pki.revocations(days=99) + b"between\n" + pki.revocations(by="others", days=-1)
    (found,) = keypair_findings(CRLFILE=place.file("crl", lists))
    assert found.code == "crl-expired"
    assert codes(keypair_findings(CRLFILE=place.file("crl", lists[:-9]))) == ["error bad-crl"]
    assert codes(keypair_findings(CRLFILE=place.file("crl", b"-----BEGIN X509 CRL-----" * 170_000))) == [
        "error bad-crl"
    ]


def test_responses_that_clients_would_not_believe(place: Place) -> None:
    """They are left out, so it is never an error."""
    pair = pki.pair(by="ours/issuing")
    files = place.pair(pair)

    def found(response: bytes) -> list[str]:
        return codes(keypair_findings(**files, OCSPFILE=place.file("response", response)))

    assert found(pki.ocsp_response(pair)) == []
    assert found(pki.ocsp_response(pair, days=-0.5)) == found(b"noise") == found(b"") == ["warning bad-ocsp"]
    assert found(pki.ocsp_response(pki.pair("x.example", by="ours/issuing"))) == ["warning bad-ocsp"]
    assert codes(keypair_findings(**files, OCSPFILE=place.path / "none")) == ["warning file-missing"]
    other = {"KEYFILE2": place.file("2.key", pair.key), "CERTFILE2": place.file("2.crt", pair.chain)}
    assert codes(keypair_findings(**other, OCSPFILE2=place.file("response", b"noise"))) == ["warning bad-ocsp"]


@pytest.mark.parametrize("data", [b"", b"noise", b"-----BEGIN X509 CRL-----\n", pki.root()])
def test_what_is_no_revocation_list(place: Place, data: bytes) -> None:
    assert codes(keypair_findings(CRLFILE=place.file("crl", data))) == ["error bad-crl"]


def test_names_and_dates_that_the_library_parses_late(place: Place) -> None:
    root = x509.load_pem_x509_certificate(pki.root()).public_bytes(Encoding.DER)
    lasting = certificate(NOW - DAY, datetime.datetime(2999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC))
    timeless = x509.load_pem_x509_certificate(lasting.chain).public_bytes(Encoding.DER)
    assert b"29991231235959Z" in timeless
    for data in (pki.garbled(root), timeless.replace(b"29991231235959Z", b"00001231235959Z")):
        for variable in ("CAFILE", "CERTFILE"):
            assert codes(keypair_findings(**{variable: place.file("cert", data)})) == ["error bad-certificate"]
    crl = pki.garbled(pki.revocations(der=True))
    assert codes(keypair_findings(CRLFILE=place.file("crl", crl))) == ["error bad-crl"]


def test_a_file_is_reported_once_for_all_rules() -> None:
    rules = [Rule(True, ((b"CAFILE", b"/none"), (b"N", b"%d" % number))) for number in range(3)]
    (found,) = keypairs.findings(loaded(*rules), 30)
    assert found.rule == b"ip4/10.0.0.0_32"
    assert found.message == "CAFILE /none: is not there (and in 2 more rules)"


@settings(max_examples=50)
@given(st.binary(max_size=300), st.sampled_from([b"", b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN X509 CRL-----\n"]))
def test_no_file_is_too_strange(tmp_path_factory: pytest.TempPathFactory, data: bytes, begin: bytes) -> None:
    path = tmp_path_factory.mktemp("strange") / "file"
    path.write_bytes(begin + data)
    assert codes(keypair_findings(KEYFILE=path)) == ["error bad-key"]
    assert codes(keypair_findings(CAFILE=path)) == ["error bad-certificate"]
    assert codes(keypair_findings(CRLFILE=path)) == ["error bad-crl"]


def test_a_certificate_that_the_library_warns_of(place: Place) -> None:
    key = load_pem_private_key(pki.pair().key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    made = pki.self_signed(key).public_bytes(Encoding.DER)
    serial = x509.load_der_x509_certificate(made).serial_number
    size = (serial.bit_length() + 8) // 8
    odd = made.replace(serial.to_bytes(size, "big", signed=True), (-serial).to_bytes(size, "big", signed=True))
    assert odd != made
    assert keypair_findings(KEYFILE=place.file("key", pki.pair().key), CERTFILE=place.file("cert", odd)) == []
