"""Where TLS parameters come from, and how their files are read."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from s6tls.posix.identity import Identity, own_account
from s6tls.tls.credentials import CredentialPaths, Keypair, KeypairPaths, NamedFile, SessionOptions, SniLevel
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi.image import StageExit
from tests.support import pki
from tests.support.children import in_child
from tests.support.tls.memory import DEFAULT, MANDATORY

BASE = {b"KEYFILE": b"/key", b"CERTFILE": b"/cert"}
SNI = SessionOptions(sni_level=SniLevel.OPTIONAL)
ONLY_SNI = SessionOptions(sni_level=SniLevel.MANDATORY)


def refusal(what: Callable[[], object]) -> str:
    """Return the message with which something is refused as bad configuration."""
    with pytest.raises(StageExit) as refused:
        what()
    assert refused.value.code == 96 and refused.value.program == "s6-tlsd-io"
    assert str(refused.value).isprintable()
    return str(refused.value)


# Variables


def test_the_default_pair_is_needed_and_enough() -> None:
    assert CredentialPaths.from_environment(BASE, DEFAULT) == CredentialPaths((KeypairPaths(b"", b"/key", b"/cert"),))
    for name in BASE:
        for env in ({k: v for k, v in BASE.items() if k != name}, BASE | {name: b""}):
            assert refusal(lambda env=env: CredentialPaths.from_environment(env, DEFAULT)) == f"{name.decode()} not set"  # type: ignore[misc]


def test_pairs_for_names_count_only_when_asked_for() -> None:
    env = BASE | {b"KEYFILE:A.example": b"/a", b"CERTFILE:A.example": b"/b"}
    assert len(CredentialPaths.from_environment(env, DEFAULT).keypairs) == 1
    named = KeypairPaths(b"a.example", b"/a", b"/b", suffix=b":A.example")
    assert CredentialPaths.from_environment(env, SNI).keypairs == (KeypairPaths(b"", b"/key", b"/cert"), named)
    assert CredentialPaths.from_environment(env, ONLY_SNI).keypairs == (named,)


def test_a_name_without_certificate_is_refused() -> None:
    env = BASE | {b"KEYFILE:a.example": b"/a"}
    assert refusal(lambda: CredentialPaths.from_environment(env, SNI)) == "CERTFILE:a.example not set"


def test_only_names_and_none_there_is_refused() -> None:
    assert "KEYFILE:name" in refusal(lambda: CredentialPaths.from_environment(BASE, ONLY_SNI))


def test_pairs_for_no_name_at_all_do_not_stand_in_for_the_default() -> None:
    env = BASE | {b"KEYFILE:": b"/a", b"CERTFILE:": b"/b"}
    assert CredentialPaths.from_environment(env, SNI).keypairs == (KeypairPaths(b"", b"/key", b"/cert"),)


def test_a_second_pair_is_read_where_there_is_a_first() -> None:
    env = BASE | {b"KEYFILE2": b"/k2", b"CERTFILE2": b"/c2"}
    both = KeypairPaths(b"", b"/key", b"/cert"), KeypairPaths(b"", b"/k2", b"/c2", b"/o2", b"2")
    env[b"OCSPFILE2"] = b"/o2"
    assert CredentialPaths.from_environment(env, DEFAULT).keypairs == both
    named = {b"%b:A" % name: path + b"a" for name, path in env.items()}
    first = KeypairPaths(b"a", b"/keya", b"/certa", suffix=b":A")
    of_name = first, KeypairPaths(b"a", b"/k2a", b"/c2a", b"/o2a", b"2:A")
    assert CredentialPaths.from_environment(env | named, SNI).keypairs == both + of_name
    assert CredentialPaths.from_environment(env | named, ONLY_SNI).keypairs == of_name
    for name in env.keys() - {b"OCSPFILE2"}:
        rest = {known: path for known, path in env.items() if known != name}
        assert refusal(lambda: CredentialPaths.from_environment(rest, DEFAULT)) == f"{name.decode()} not set"  # noqa: B023
    del named[b"KEYFILE:A"]
    assert refusal(lambda: CredentialPaths.from_environment(env | named, SNI)) == "KEYFILE:A not set"


def test_asking_for_client_certificates_needs_an_authority() -> None:
    assert "CADIR or CAFILE" in refusal(lambda: CredentialPaths.from_environment(BASE, MANDATORY))
    both = CredentialPaths.from_environment(BASE | {b"CADIR": b"/d", b"CAFILE": b"/f"}, MANDATORY)
    assert (both.ca_dir, both.ca_file) == (b"/d", b"/f")
    unasked = CredentialPaths.from_environment(BASE | {b"CADIR": b"/d", b"CAFILE": b"/f"}, DEFAULT)
    assert (unasked.ca_dir, unasked.ca_file) == (b"", b"")


GAMES = pwd.getpwnam("games")
OWN = own_account("s6tls-engine")
NO_ACCOUNT = 64001


@pytest.mark.parametrize(
    ("uid", "gid", "expected"),
    [
        (1000, 1001, Identity(1000, 1001)),
        (None, None, OWN),
        (None, 1001, Identity(OWN.uid, 1001)),
        (GAMES.pw_uid, None, Identity(GAMES.pw_uid, GAMES.pw_gid)),
        (NO_ACCOUNT, None, Identity(NO_ACCOUNT, NO_ACCOUNT)),
    ],
)
def test_ids_are_those_of_the_variables_and_never_roots(uid: int | None, gid: int | None, expected: Identity) -> None:
    ids = {name: b"%d" % number for name, number in ((b"TLS_UID", uid), (b"TLS_GID", gid)) if number is not None}
    for options in (DEFAULT, SessionOptions(allow_root=True)):
        assert TlsParameters.from_environment(BASE | ids, options).identity == expected
    assert 0 not in (expected.uid, expected.gid) and expected.groups == ()


@pytest.mark.parametrize(
    ("uid", "gid", "found"), [(0, None, (0, 0)), (0, 7, (0, 7)), (7, 0, (7, 0)), (None, 0, (OWN.uid, 0))]
)
def test_root_is_refused_unless_it_is_allowed(uid: int | None, gid: int | None, found: tuple[int, int]) -> None:
    ids = {name: b"%d" % number for name, number in ((b"TLS_UID", uid), (b"TLS_GID", gid)) if number is not None}
    assert TlsParameters.from_environment(BASE | ids, SessionOptions(allow_root=True)).identity == Identity(*found)
    message = refusal(lambda: TlsParameters.from_environment(BASE | ids, DEFAULT))
    assert message == f"engines run as user {found[0]} and group {found[1]} only with --allow-root-engine"


def test_without_root_there_is_no_choice() -> None:
    def found() -> object:
        os.setresuid(NO_ACCOUNT, NO_ACCOUNT, NO_ACCOUNT)
        return [TlsParameters.from_environment(BASE | {b"TLS_UID": uid}, DEFAULT).identity for uid in (b"0", b"5")]

    assert in_child(found) == repr([None, None])


@pytest.mark.parametrize("bad", [b"", b"root", b"-1", b"4294967295", b"1 ", b"0x1", b"99999999999"])
@pytest.mark.parametrize("name", [b"TLS_UID", b"TLS_GID"])
def test_ids_that_are_none_are_refused(name: bytes, bad: bytes) -> None:
    message = refusal(lambda: TlsParameters.from_environment(BASE | {name: bad}, DEFAULT))
    assert message.startswith(f"{name.decode()}: invalid id: ")


# Files


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    pair = pki.pair()
    credentials = pki.paths(tmp_path, pair).read()
    key = NamedFile(f"KEYFILE {tmp_path}/server.key", pair.key)
    assert credentials.keypairs == (Keypair(b"", key, NamedFile(f"CERTFILE {tmp_path}/server.crt", pair.chain)),)
    assert credentials.trusted == ()


def authorities(tmp_path: Path) -> CredentialPaths:
    key, chain = pki.pair().write(tmp_path)
    (tmp_path / "cas").mkdir()
    return CredentialPaths((KeypairPaths(b"", key, chain),), ca_dir=os.fsencode(tmp_path / "cas"))


def test_all_files_of_a_directory_of_authorities_count_but_hidden_ones(tmp_path: Path) -> None:
    paths = authorities(tmp_path)
    assert paths.read().trusted == ()
    for name in ("b", "a", ".hidden"):
        (tmp_path / "cas" / name).write_bytes(name.encode())
    (tmp_path / "cas" / "directory").mkdir()
    assert paths.read().trusted == tuple((f"CADIR {tmp_path}/cas/{name}", name.encode()) for name in ("a", "b"))


@pytest.mark.parametrize(
    "change",
    [
        lambda place: (place / "server.key").write_bytes(b"x"),
        lambda place: (place / "server.crt").write_bytes(b"x"),
        lambda place: os.utime(place / "server.key", ns=(1, 1)),
        lambda place: pki.replace(place / "server.key", (place / "server.key").read_bytes()),
        lambda place: (place / "cas" / "new").write_bytes(b"x"),
        lambda place: (place / "cas" / "old").write_bytes(b"changed"),
        lambda place: (place / "cas" / "old").unlink(),
    ],
    ids=["key", "certificate", "time only", "same bytes, other file", "CA added", "CA changed", "CA removed"],
)
def test_any_change_of_a_file_shows(tmp_path: Path, change: Callable[[Path], object]) -> None:
    paths = authorities(tmp_path)
    (tmp_path / "cas" / "old").write_bytes(b"old")
    before = paths.stamps()
    assert paths.stamps() == before
    change(tmp_path)
    assert paths.stamps() != before


def test_a_link_that_points_elsewhere_shows(tmp_path: Path) -> None:
    paths = pki.paths(tmp_path, pki.pair())
    key = tmp_path / "server.key"
    key.rename(tmp_path / "one")
    (tmp_path / "two").write_bytes((tmp_path / "one").read_bytes())
    key.symlink_to("one")
    before = paths.stamps()
    key.unlink()
    key.symlink_to("two")
    assert paths.stamps() != before


def missing(path: Path) -> None:
    path.unlink()


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def huge(path: Path) -> None:
    os.truncate(path, 5 * 2**20)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [missing, directory, fifo, huge, loop, endless])
@pytest.mark.parametrize("name", ["server.key", "server.crt"])
def test_what_is_no_readable_file_is_refused_by_name_and_without_waiting(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    paths = pki.paths(tmp_path, pki.pair())
    make(tmp_path / name)
    variable = "KEYFILE" if name.endswith("key") else "CERTFILE"
    assert f"unable to read {variable} {tmp_path / name}: " in refusal(paths.read)


def test_a_directory_of_authorities_that_is_none_is_refused(tmp_path: Path) -> None:
    paths = CredentialPaths(pki.paths(tmp_path, pki.pair()).keypairs, ca_dir=os.fsencode(tmp_path / "nowhere"))
    assert "nowhere" in refusal(paths.read)
    assert "nowhere" in refusal(paths.stamps)


def test_a_path_is_shown_on_one_line(tmp_path: Path) -> None:
    paths = CredentialPaths((KeypairPaths(b"", os.fsencode(tmp_path) + b"/a\nb\xff", b"/c"),))
    with pytest.raises(StageExit) as refused:
        paths.read()
    assert "\\xff" in str(refused.value)
