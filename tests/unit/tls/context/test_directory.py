"""Pairs for server names in a directory: which there are, and that each stands alone."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from s6tls.pki import Unusable
from s6tls.pki.names import named_in
from s6tls.tls.context import Mismatch, build
from s6tls.tls.credentials import CredentialPaths, Credentials, SessionOptions, SniLevel
from s6tls.tls.parameters import TlsParameters
from s6tls.tls.pump import TLSFailure
from s6tls.ucspi.image import StageExit
from tests.support import pki
from tests.support.pki import Pair
from tests.support.tls.memory import EACH_VERSION, VERSIONS, client_context, connect, ticket

A, B = b"a.example", b"b.example"


def put(directory: Path, name: str, pair: Pair, files: tuple[str, ...] = ("privkey.pem", "fullchain.pem")) -> None:
    place = directory / name
    place.mkdir(exist_ok=True)
    for file, data in zip(("privkey.pem", "fullchain.pem"), (pair.key, pair.chain), strict=True):
        if file in files:
            pki.replace(place / file, data)


def put_in_one(directory: Path, name: str, pair: Pair) -> None:
    pki.replace(directory / f"{name}.pem", pair.key + pair.chain)


def paths(directory: Path, default: Pair | None = None) -> CredentialPaths:
    known = () if default is None else pki.paths(directory.parent, default).keypairs
    return CredentialPaths(known, sni_directory=os.fsencode(directory))


@pytest.fixture
def names(tmp_path: Path) -> Path:
    (tmp_path / "names").mkdir()
    return tmp_path / "names"


def served(credentials: Credentials, name: bytes, version: int | None = None) -> str:
    """Return the name in the certificate that a client gets, or why it gets none."""
    try:
        client = connect(build(credentials, SessionOptions()), client_context(version), name)
    except TLSFailure as failure:
        return str(failure)
    certificate = client.connection.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)[0]


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("a.example", A),
        ("A.Example", A),
        ("*.example", b"*.example"),
        ("_.example", b"*.example"),
        ("localhost", b"localhost"),
        ("_dmarc.example", b"_dmarc.example"),
        *((odd, None) for odd in (".hidden", "a b", "-a", "a..b", "*", "a.*.example", "192.0.2.1", "x" * 64, "é")),
    ],
)
def test_names(names: Path, entry: str, name: bytes | None) -> None:
    (names / entry).mkdir()
    (names / f"sub.{entry}.pem").touch() if name == A else (names / f"{entry}.pem").touch()
    found = {named.server_name: named for named in named_in(os.fsencode(names))}
    if name is None:
        assert not found
    else:
        directory = os.fsencode(names / entry)
        assert found[name] == (name, directory + b"/privkey.pem", directory + b"/fullchain.pem")
    if name == A:
        assert found[b"sub.a.example"].key == found[b"sub.a.example"].chain


def test_what_else_is_in_the_directory_is_passed_over_and_links_are_followed(names: Path, tmp_path: Path) -> None:
    (names / "README").touch()
    (names / "a.example.key").touch()
    (tmp_path / "elsewhere").mkdir()
    (names / A.decode()).symlink_to(tmp_path / "elsewhere")
    (names / "b.example.pem").symlink_to("nowhere")
    assert [named.server_name for named in named_in(os.fsencode(names))] == [A, B]
    with pytest.raises(Unusable, match="nowhere: No such file"):
        named_in(os.fsencode(tmp_path / "nowhere"))


def test_each_name_has_its_own_and_others_the_default(names: Path) -> None:
    put(names, "a.example", pki.pair("a.example"))
    put_in_one(names, "_.example", pki.pair("*.example"))
    found = paths(names, pki.pair())
    assert found.server_names() == [b"", b"*.example", A]
    credentials = found.read()
    assert [served(credentials, name) for name in (A, B, b"else")] == ["a.example", "*.example", pki.SERVER]


def test_variables_come_before_the_directory(names: Path) -> None:
    put_in_one(names, "a.example", pki.pair("other.example"))
    env = dict(
        zip((b"KEYFILE:a.example", b"CERTFILE:a.example"), pki.pair("a.example").write(names.parent), strict=True)
    )
    options = SessionOptions(sni_level=SniLevel.MANDATORY, sni_directory=os.fsencode(names))
    found = TlsParameters.from_environment(env, options).paths
    assert found.server_names() == [A] and served(found.read(), A) == "a.example"


@pytest.mark.parametrize("what", ["no chain", "no key in it", "another's chain"])
def test_a_pair_that_is_no_good_refuses_its_name_and_no_other(
    names: Path, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    put_in_one(names, "_.example", pki.pair("*.example"))
    put_in_one(names, "b.example", pki.pair("b.example"))
    good, other = pki.pair("a.example"), pki.pair("other.example")
    match what:
        case "no chain":
            put(names, "a.example", good, ("privkey.pem",))
        case "no key in it":
            put_in_one(names, "a.example", Pair(b"", good.chain))
        case _:
            put(names, "a.example", Pair(good.key, other.chain))
    credentials = paths(names).read()
    assert served(credentials, B) == "b.example"
    assert [served(credentials, A, version) for version in VERSIONS] == ["no certificate for a.example"] * 2
    said = set(capfd.readouterr().err.splitlines())
    assert len(said) == 1
    assert re.fullmatch("s6-tlsd-io: warning: unable to .*: clients that ask for a.example are refused", said.pop())


def test_a_pair_that_may_be_half_renewed_leaves_all_as_it_was(names: Path) -> None:
    put(names, "a.example", Pair(pki.pair("a.example").key, pki.pair("other.example").chain))
    with pytest.raises(Mismatch):
        build(replace(paths(names).read(), renewed=True), SessionOptions())


def test_a_change_shows_whether_of_a_file_or_of_a_name(names: Path) -> None:
    put(names, "a.example", pki.pair("a.example"))
    found = paths(names)
    stamps = [found.stamps()]
    pki.replace(names / "a.example/privkey.pem", b"another")
    stamps.append(found.stamps())
    put(names, "b.example", pki.pair("b.example"), ())
    stamps.append(found.stamps())
    put(names, "b.example", pki.pair("b.example"))
    stamps.append(found.stamps())
    (names / "b.example").rename(names / "c.example")
    stamps.append(found.stamps())
    assert len(set(stamps)) == 5 and found.stamps() == stamps[-1]


def test_without_any_name_and_without_a_default_nobody_is_served(names: Path) -> None:
    with pytest.raises(StageExit, match=r"no server name in .*/names"):
        paths(names).read()
    assert paths(names, pki.pair()).server_names() == [b""]


@EACH_VERSION
def test_a_client_that_asks_for_no_name_or_for_none_of_a_host(names: Path, version: int) -> None:
    put_in_one(names, "a.example", pki.pair("a.example"))
    credentials = paths(names).read()
    assert served(credentials, b"", version) == "no certificate for a peer that asks for no name"
    assert served(credentials, b"../x\n", version) == "no certificate for what is no name of a host"


@EACH_VERSION
def test_a_ticket_of_a_good_name_opens_none_that_is_refused(names: Path, version: int) -> None:
    put_in_one(names, "a.example", pki.pair("a.example"))
    put_in_one(names, "b.example", Pair(b"", b""))
    server, client = build(paths(names).read(), SessionOptions()), client_context(version)
    session = ticket(server, client, A)
    assert connect(server, client, A, session).resumed
    with pytest.raises(TLSFailure, match=r"^no certificate for b\.example$"):
        connect(server, client, B, session)
