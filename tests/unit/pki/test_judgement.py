"""What a chain lacks or has too much of.  What time does to certificates is tested with lint, which says it too."""

from __future__ import annotations

import datetime
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from s6tls.pki.judgement import of_chain
from tests.support import pki

NOW = datetime.datetime.now(datetime.UTC)
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "issuing", "leaf", "other")}


def certificate(name: str, issuer: str, fetchable: bool = True) -> x509.Certificate:
    """A certificate; those of public authorities say where that of their issuer is to be fetched."""
    subject, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(KEYS[name].public_key())
    builder = builder.serial_number(len(name)).not_valid_before(NOW).not_valid_after(NOW + pki.FOREVER)
    builder = builder.add_extension(x509.BasicConstraints(ca=name != "leaf", path_length=None), critical=True)
    if fetchable:
        where = x509.UniformResourceIdentifier("http://ca.example/ca.crt")
        access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    return builder.sign(KEYS[issuer], hashes.SHA256())


ROOT, ISSUING = certificate("root", "root"), certificate("issuing", "root")
LEAF, OTHER = certificate("leaf", "issuing"), certificate("other", "other")


@pytest.mark.parametrize(
    ("chain", "codes"),
    [
        ([LEAF, ISSUING, ROOT], []),
        ([LEAF, ROOT, ISSUING], []),
        ([certificate("leaf", "root", fetchable=False)], []),
        ([ROOT], []),
        ([LEAF], ["chain-incomplete"]),
        ([LEAF, ISSUING], ["chain-incomplete"]),
        ([LEAF, ROOT], ["chain-unrelated", "chain-incomplete"]),
        ([LEAF, OTHER, ISSUING, ROOT], ["chain-unrelated"]),
        ([LEAF, ISSUING, ROOT, LEAF], []),
    ],
)
def test_a_chain(chain: list[x509.Certificate], codes: list[str]) -> None:
    assert [odd.code for odd in of_chain(chain)] == codes


def test_what_this_system_knows_need_not_be_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path_factory.mktemp("known") / "ca.pem"
    known.write_bytes(ROOT.public_bytes(Encoding.PEM))
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(known))
    assert list(of_chain([LEAF, ISSUING])) == []


def test_the_message_says_who_is_missing() -> None:
    (odd,) = of_chain([LEAF])
    who = "the certificate of CN=leaf is issued by CN=issuing, whose certificate is not in the file"
    assert str(odd) == f"{who}: add it behind, or clients may not trust the server"
