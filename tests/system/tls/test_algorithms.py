"""Keys of two kinds, OCSP responses, groups, ciphers and versions, as ``openssl s_client`` meets them."""

from __future__ import annotations

import pytest

from tests.support import pki
from tests.support.commands import run
from tests.support.peers import s_client
from tests.support.site import Env, Site, allow

PROGRAM = ("sh", "-c", "read line; echo got $line")
EVERYTHING = "rsa_pss_rsae_sha256:rsa_pkcs1_sha256:ecdsa_secp256r1_sha256"


def two_pairs(site: Site) -> Env:
    second = site.authority.issue("localhost", rsa_key=True)
    return {**site.env, "KEYFILE2": second.key, "CERTFILE2": second.certificate}


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_the_client_s_algorithms_decide_between_two_keys(site: Site, version: str) -> None:
    with site.serve(*PROGRAM, options=("-S",), env=two_pairs(site)) as server:
        for algorithms, kind in (
            ("rsa_pss_rsae_sha256:rsa_pkcs1_sha256", "rsa"),
            ("ecdsa_secp256r1_sha256", "ecdsa"),
            (EVERYTHING, "ecdsa"),
        ):
            told = s_client(server, site.authority.file, version, "-sigalgs", algorithms)
            assert "got hello" in told and "Verify return code: 0 (ok)" in told
            (line,) = {line for line in told.splitlines() if line.startswith("Peer signature type: ")}
            assert kind in line.lower()


def test_a_rule_may_name_the_second_pair(site: Site) -> None:
    second = site.authority.issue("localhost", rsa_key=True)
    rules = site.compile({"ip4/127.0.0.1_32": allow(KEYFILE2=second.key, CERTFILE2=second.certificate)})
    with site.serve(*PROGRAM, options=("-S", "-x", rules)) as server:
        told = s_client(server, site.authority.file, "-sigalgs", "rsa_pss_rsae_sha256")
        assert "got hello" in told and "Peer signature type: RSA-PSS" in told


def test_an_ocsp_response_is_stapled(site: Site) -> None:
    """The authority's own certificate is in the chain, so that the server can check the response."""
    pair, file = pki.pair("localhost", by="ours/issuing"), site.place / "response"
    key, chain = pair.write(site.place)
    env = {**site.env, "KEYFILE": key.decode(), "CERTFILE": chain.decode(), "OCSPFILE": str(file)}
    ca = site.place / "root.pem"
    ca.write_bytes(pki.root("ours"))
    with site.serve(*PROGRAM, options=("-S",), env=env) as server:
        assert "OCSP response: no response sent" in s_client(server, str(ca), "-status")
        pki.replace(file, pki.ocsp_response(pair))
        for version in ("-tls1_2", "-tls1_3"):
            told = s_client(server, str(ca), "-status", version)
            assert "OCSP Response Status: successful" in told and "Cert Status: good" in told and "got hello" in told
        pki.replace(file, pki.ocsp_response(pki.pair("other.example", by="ours/issuing")))
        assert "OCSP response: no response sent" in s_client(server, str(ca), "-status")
        server.wait_log("^s6-tlsd-io: warning: unable to use OCSPFILE .*: about another certificate: it is left out$")


def test_groups_are_few_and_others_can_be_named(site: Site) -> None:
    with site.serve(*PROGRAM, options=("-S",)) as server:
        for group in ("X25519", "P-256", "P-384"):
            assert "got hello" in s_client(server, site.authority.file, "-groups", group)
        assert "handshake failure" in s_client(server, site.authority.file, "-groups", "P-521")
    with site.serve(*PROGRAM, options=("-S", "--groups=P-521")) as server:
        assert "got hello" in s_client(server, site.authority.file, "-groups", "P-521:X25519")
        assert "handshake failure" in s_client(server, site.authority.file, "-groups", "X25519")


def test_versions_and_ciphers_that_are_named(site: Site) -> None:
    ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256"
    with site.serve(*PROGRAM, options=("-S", "--ciphers", ciphers)) as server:
        told = s_client(server, site.authority.file, "-tls1_3")
        assert "got hello" in told and "Cipher is TLS_AES_128_GCM_SHA256" in told
        told = s_client(server, site.authority.file, "-tls1_2")
        assert "got hello" in told and "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in told
    with site.serve(*PROGRAM, options=("-S", "--tls-min=1.3")) as server:
        assert "got hello" in s_client(server, site.authority.file)
        assert "protocol version" in s_client(server, site.authority.file, "-tls1_2")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ciphers", "nonsense"),
        ("ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA255"),
        ("ciphers", ""),
        ("groups", "X25519:P-257"),
        ("groups", ""),
        ("tls-min", "1.1"),
        ("ticket-lifetime", "0"),
        ("ticket-lifetime", "604801"),
    ],
)
def test_what_nobody_knows_is_wrong_usage(option: str, value: str) -> None:
    for words in (["s6-tlsd"], ["s6-tlsserver", "127.0.0.1", "0"]):
        done = run([words[0], f"--{option}={value}", *words[1:], "true"])
        assert done.returncode == 100
        assert f"invalid value for --{option}: {value} (expected " in done.stderr and done.stderr.count("\n") == 1
