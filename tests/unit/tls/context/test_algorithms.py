"""Versions, ciphers and groups: those of today, or those that are named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from OpenSSL import SSL
from OpenSSL._util import lib

from s6tls.tls.context import BadConfiguration, build
from s6tls.tls.context.algorithms import are_known, restrict
from s6tls.tls.credentials import SessionOptions
from s6tls.tls.pump import TLSFailure
from tests.support import pki
from tests.support.tls.memory import EACH_VERSION, client_context, connect

DEFAULT = SessionOptions()


def server(options: SessionOptions, rsa_key: bool = False) -> SSL.Context:
    return build(pki.credentials(default=pki.pair(rsa_key=rsa_key)), options)


def agreed(options: SessionOptions, offered: bytes, version: int = SSL.TLS1_3_VERSION) -> str:
    """Return the group that is agreed on with a client that has these.

    The key is RSA: in TLS 1.2 the client's groups are also those of ECDSA keys.
    """
    client = client_context(version)
    assert lib.SSL_CTX_set1_curves_list(client._context, offered)
    return (connect(server(options, rsa_key=True), client).connection.get_group_name() or "").lower()


@EACH_VERSION
@pytest.mark.parametrize(("group", "name"), [(b"X25519", "x25519"), (b"P-256", "secp256r1"), (b"P-384", "secp384r1")])
def test_groups_of_today_are_agreed_on(group: bytes, name: str, version: int) -> None:
    assert agreed(DEFAULT, group, version) == name


def test_a_client_that_can_is_safe_from_quantum_computers() -> None:
    assert agreed(DEFAULT, b"X25519:P-256:X25519MLKEM768") == "x25519mlkem768"


@EACH_VERSION
@pytest.mark.parametrize("group", [b"P-521", b"X448", b"brainpoolP256r1"])
def test_others_are_not(group: bytes, version: int) -> None:
    with pytest.raises((TLSFailure, SSL.Error)):
        agreed(DEFAULT, group, version)


@EACH_VERSION
def test_groups_that_are_named_are_all_that_count(version: int) -> None:
    named = SessionOptions(groups=b"P-521:P-384")
    assert agreed(named, b"X25519:P-384:P-521", version) == "secp521r1"
    with pytest.raises((TLSFailure, SSL.Error)):
        agreed(named, b"X25519", version)


def test_a_library_without_the_newest_group_has_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s6tls.tls.context.algorithms._GROUPS", b"X25519NEWER/X25519")
    assert agreed(DEFAULT, b"P-521:P-384") == "secp384r1"


def test_a_lowest_version() -> None:
    strict = server(SessionOptions(tls13_only=True))
    connect(strict, client_context(SSL.TLS1_3_VERSION))
    with pytest.raises(TLSFailure, match="protocol"):
        connect(strict, client_context(SSL.TLS1_2_VERSION))


def cipher(options: SessionOptions, version: int) -> str:
    return connect(server(options), client_context(version)).connection.get_cipher_name() or ""


def test_ciphers_of_one_version_leave_the_other_s_as_they_are() -> None:
    older = SessionOptions(ciphers=b"ECDHE-ECDSA-AES128-GCM-SHA256")
    newer = SessionOptions(ciphers=b"TLS_AES_128_GCM_SHA256")
    both = SessionOptions(ciphers=older.ciphers + b":" + newer.ciphers)
    found = {(options, version): cipher(options, version) for options in (older, newer, both) for version in (771, 772)}
    assert found == {
        (older, SSL.TLS1_2_VERSION): "ECDHE-ECDSA-AES128-GCM-SHA256",
        (older, SSL.TLS1_3_VERSION): "TLS_AES_256_GCM_SHA384",
        (newer, SSL.TLS1_2_VERSION): "ECDHE-ECDSA-AES256-GCM-SHA384",
        (newer, SSL.TLS1_3_VERSION): "TLS_AES_128_GCM_SHA256",
        (both, SSL.TLS1_2_VERSION): "ECDHE-ECDSA-AES128-GCM-SHA256",
        (both, SSL.TLS1_3_VERSION): "TLS_AES_128_GCM_SHA256",
    }


@pytest.mark.parametrize(
    ("options", "known"),
    [
        (DEFAULT, True),
        (SessionOptions(ciphers=b"ECDHE+AESGCM:!aNULL:-RSA:@STRENGTH"), True),
        (SessionOptions(ciphers=b"TLS_AES_128_GCM_SHA256"), True),
        (SessionOptions(ciphers=b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-NONSENSE"), False),
        (SessionOptions(ciphers=b"TLS_NONSENSE"), False),
        (SessionOptions(ciphers=b"nonsense"), False),
        (SessionOptions(ciphers=b"\xff"), False),
        (SessionOptions(groups=b"P-256:X448"), True),
        (SessionOptions(groups=b"P-257"), False),
        (SessionOptions(groups=b"P-256:nonsense"), False),
        (SessionOptions(groups=b":"), False),
    ],
)
def test_what_the_library_does_not_know_is_found(options: SessionOptions, known: bool) -> None:
    assert are_known(options) == known
    connect(server(DEFAULT))  # the library's error queue must be clean


@pytest.mark.parametrize("options", [SessionOptions(ciphers=b"nonsense"), SessionOptions(groups=b"nonsense")])
def test_no_context_is_made_with_it(options: SessionOptions) -> None:
    with pytest.raises(BadConfiguration, match=r"^no such (ciphers|groups): nonsense$"):
        server(options)


def test_a_client_of_ours_is_restricted_alike() -> None:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    options = replace(DEFAULT, groups=b"P-521", ciphers=b"TLS_AES_128_GCM_SHA256")
    restrict(client, options)
    assert connect(server(options), client).connection.get_cipher_name() == "TLS_AES_128_GCM_SHA256"
