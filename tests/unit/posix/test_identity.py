"""Taking other ids, for good.  Real ids in a forked child: these tests run as root."""

from __future__ import annotations

import ctypes
import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules.identifiers import BadId, parse_groups, parse_id
from s6tls.posix.identity import BadIdentity, Identity, own_account, primary_group
from s6tls.stages.applyuidgid import ApplyUidGid
from s6tls.ucspi.image import Image, StageExit
from tests.support.children import in_child


@given(st.integers(0, 2**32 - 2))
def test_an_id_is_a_decimal_number(number: int) -> None:
    assert parse_id(b"%d" % number) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1 ", "1_0", "0x1", "4294967295", "9" * 5000, "٣", "root"])
def test_nothing_else_is_an_id(text: str) -> None:
    with pytest.raises(BadId, match=r"^invalid id: "):
        parse_id(text.encode())


def test_a_list_of_groups() -> None:
    assert parse_groups(b"") == ()
    assert parse_groups(b"7") == (7,)
    assert parse_groups(b"7,8,9") == (7, 8, 9)
    assert parse_groups(b",7,,8,") == (7, 8)
    for text in (b"7, 8", b"7;8", b"7,x", b"-7"):
        with pytest.raises(BadId):
            parse_groups(text)


def taken(identity: Identity) -> tuple[object, ...]:
    os.setgroups([4, 5])
    identity.take()
    return os.getresuid(), os.getresgid(), sorted(os.getgroups())


def test_all_three_are_taken() -> None:
    identity = Identity(1001, 1002, (7, 8))
    assert in_child(lambda: taken(identity)) == repr(((1001,) * 3, (1002,) * 3, [7, 8]))


def test_supplementary_groups_are_emptied_when_none_are_asked_for() -> None:
    identity = Identity(1001, None)
    assert in_child(lambda: taken(identity)) == repr(((1001,) * 3, (os.getgid(),) * 3, []))


def test_a_group_alone_leaves_the_user() -> None:
    identity = Identity(None, 1002)
    assert in_child(lambda: taken(identity)) == repr(((0,) * 3, (1002,) * 3, []))


@pytest.mark.parametrize("back", ["setuid(0)", "seteuid(0)", "setresuid(-1, 0, -1)", "setgid(0)", "setgroups([0])"])
def test_root_cannot_come_back(back: str) -> None:
    def body() -> None:
        Identity(1001, 1002).take()
        eval(f"os.{back}")

    assert in_child(body) == repr(PermissionError(1, "Operation not permitted"))


def test_only_root_can_take_ids() -> None:
    def body() -> None:
        os.setuid(1001)
        Identity(1001, None).take()

    assert in_child(body) == repr(PermissionError(1, "Operation not permitted"))


def test_a_drop_that_can_be_undone_is_none() -> None:
    def body() -> None:
        class Forgetful(Identity):
            def take(self, _: object = None) -> None:
                os.setgroups(self.groups)
                os.setresuid(1001, 1001, 0)
                self._verify()

        Forgetful(1001, None).take()

    assert in_child(body) == repr(BadIdentity("user id is not the one asked for"))


def test_a_capability_that_stays_and_brings_root_back_is_found() -> None:
    def body() -> None:
        set_securebits, no_setuid_fixup = 28, 1 << 2  # prctl(2), capabilities(7): ids change, capabilities stay
        assert ctypes.CDLL(None).prctl(set_securebits, no_setuid_fixup, 0, 0, 0) == 0
        Identity(1001, 1002).take()

    assert in_child(body) == repr(BadIdentity("root could be had back"))


VARIABLES = {b"UID": b"1001", b"GID": b"1002", b"GIDLIST": b"7,8"}


def applied(stage: ApplyUidGid, env: dict[bytes, bytes]) -> Image:
    image = Image(dict(env), [b"prog"])
    stage.apply(image)
    return image


def test_without_options_nothing_changes() -> None:
    image = applied(ApplyUidGid(), VARIABLES)
    assert (image.identity, image.env) == (None, VARIABLES)


def test_ids_from_the_command_line() -> None:
    assert applied(ApplyUidGid(uid=1), {}).identity == Identity(1, None, ())
    assert applied(ApplyUidGid(uid=1, gid=2, groups=(3,)), VARIABLES).identity == Identity(1, 2, (3,))
    assert applied(ApplyUidGid(groups=()), {}).identity == Identity(None, None, ())


def test_ids_from_the_environment() -> None:
    assert applied(ApplyUidGid(from_env=True), VARIABLES).identity == Identity(1001, 1002, (7, 8))
    assert applied(ApplyUidGid(from_env=True), {**VARIABLES, b"GIDLIST": b""}).identity == Identity(1001, 1002, ())


def test_the_command_line_stands_over_the_environment() -> None:
    assert applied(ApplyUidGid(uid=5, groups=(), from_env=True), VARIABLES).identity == Identity(5, 1002, ())


def test_unexport() -> None:
    image = applied(ApplyUidGid(from_env=True, unexport=True), {**VARIABLES, b"A": b"1"})
    assert (image.identity, image.env) == (Identity(1001, 1002, (7, 8)), {b"A": b"1"})


@pytest.mark.parametrize("name", ["UID", "GID", "GIDLIST"])
def test_a_variable_that_is_missing_or_wrong_is_100(name: str) -> None:
    for value, message in {None: f"{name} not set", b"1,x\n": f"invalid ${name}"}.items():
        env = {key: text for key, text in {**VARIABLES, name.encode(): value}.items() if text is not None}
        with pytest.raises(StageExit) as caught:
            applied(ApplyUidGid(from_env=True), env)
        assert (caught.value.code, str(caught.value)) == (100, message)


# Accounts


def account(monkeypatch: pytest.MonkeyPatch, **ids: tuple[int, int]) -> Identity:
    """Return what is taken for "own" where these accounts, and no others, are there."""
    entries = {
        name: pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/false")) for name, (uid, gid) in ids.items()
    }
    monkeypatch.setattr(pwd, "getpwnam", entries.__getitem__)
    return own_account.__wrapped__("own")


def test_an_account_of_ones_own_comes_first_then_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert account(monkeypatch, own=(7, 8), nobody=(99, 98)) == Identity(7, 8)
    assert account(monkeypatch, nobody=(99, 98)) == Identity(99, 98)
    assert account(monkeypatch) == Identity(65534, 65534)


@pytest.mark.parametrize("ids", [(0, 0), (0, 8), (7, 0)])
def test_what_is_roots_is_no_account_of_ones_own(monkeypatch: pytest.MonkeyPatch, ids: tuple[int, int]) -> None:
    assert account(monkeypatch, own=ids, nobody=(99, 98)) == Identity(99, 98)
    assert account(monkeypatch, own=ids, nobody=ids) == Identity(65534, 65534)


def test_a_user_has_the_group_of_its_account_or_that_of_its_number() -> None:
    games = pwd.getpwnam("games")
    assert games.pw_uid != games.pw_gid == primary_group(games.pw_uid)
    assert primary_group(64001) == 64001
    assert primary_group(2**32 - 2) == 2**32 - 2
