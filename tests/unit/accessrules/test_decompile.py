"""From cdb files to trees, whatever is in the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s6tls.accessrules import MalformedRecord, Rule, RuleSetError, record
from s6tls.accessrules.cdbfile import MAX_KEY
from s6tls.accessrules.decompile import decompile
from tests.support.rules import trees

PLAIN = b"A\0\0\0\0"


@pytest.fixture
def place(tmp_path: Path) -> bytes:
    """A directory with nothing but another one around it, so that it shows when something is written outside."""
    inner = os.fsencode(tmp_path) + b"/outer/inner"
    os.makedirs(inner)
    return inner


def decompiled(place: bytes, *records: tuple[bytes, bytes]) -> dict[bytes, bytes | None]:
    trees.write_cdb(place + b"/cdb", list(records))
    decompile(place + b"/out", place + b"/cdb")
    return trees.read_tree(place + b"/out")


def test_rules(place: bytes) -> None:
    allow = record.encode(Rule(True, ((b"SET", b"a\nb"), (b"EMPTY", b""), (b"UNSET", None)), b"ls\n"))
    assert decompiled(place, (b"ip4/k", allow), (b"uid/1", b"D"), (b"uid/2", PLAIN), (b"uid/3", b"?")) == {
        b"ip4": None,
        b"ip4/k": None,
        b"ip4/k/allow": b"",
        b"ip4/k/env": None,
        b"ip4/k/env/SET": b"a\0b\n",
        b"ip4/k/env/EMPTY": b"\n",
        b"ip4/k/env/UNSET": b"",
        b"ip4/k/exec": b"ls\n",
        b"uid": None,
        b"uid/1": None,
        b"uid/1/deny": b"",
        b"uid/2": None,
        b"uid/2/allow": b"",
        b"uid/3": None,
    }


def test_no_rules(place: bytes) -> None:
    assert decompiled(place) == {}


def _refused(place: bytes, *records: tuple[bytes, bytes]) -> str:
    around = os.path.dirname(os.path.dirname(place))
    before = trees.read_tree(around)
    with pytest.raises(RuleSetError) as caught:
        decompiled(place, *records)
    os.unlink(place + b"/cdb")
    assert trees.read_tree(around) == before
    return str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        *(b"", b"/", b"ip4", b"ip4/", b"/k", b"//k", b"ip4//k", b"ip4/k/", b"ip4/a/b", b"/etc/passwd", b"ip4/../x"),
        *(b"../x", b"../../x", b"./x", b"ip4/.", b"ip4/..", b"ip4/.hidden", b".git/x", b"ip4/a\0b", b"ip\0/a"),
        *(b"ip4/" + b"x" * 256, b"x" * 256 + b"/k", b"ip4/" + b"x" * 100_000),
    ],
)
def test_keys_that_are_no_place_in_a_tree(place: bytes, key: bytes) -> None:
    assert _refused(place, (b"ip4/good", PLAIN), (key, PLAIN))


def test_bytes_from_the_file_stand_in_messages_as_escapes(place: bytes) -> None:
    assert "a\\x0a\\xff/b/c:" in _refused(place, (b"a\n\xff/b/c", PLAIN))


@pytest.mark.parametrize("name", [b"a/b", b"../x", b"/etc/x", b".x", b".", b"..", b"", b"x" * 256])
@pytest.mark.parametrize("value", [b"", b"=1"])
def test_variables_that_are_no_file(place: bytes, name: bytes, value: bytes) -> None:
    env = name + value + b"\0"
    assert _refused(place, (b"ip4/k", b"A%b%b\0\0" % (len(env).to_bytes(2, "big"), env)))


@pytest.mark.parametrize("value", [b"v ", b"\t", b"a\r", b"v" * 4096])
def test_values_that_no_file_gives(place: bytes, value: bytes) -> None:
    env = b"X=" + value + b"\0"
    assert _refused(place, (b"ip4/k", b"A%b%b\0\0" % (len(env).to_bytes(2, "big"), env)))


@pytest.mark.parametrize("value", [b"", b"A\0\0", b"A\0\0\0\0x", b"Dxx", b"D" * 9000, b"?" * 9000, b"A\0\3FOO\0\0"])
def test_malformed_values(place: bytes, value: bytes) -> None:
    assert "ip4/k" in _refused(place, (b"ip4/k", value)) or len(value) > 8197


def test_an_incomplete_allow_is_taken_for_a_plain_one_but_not_silently(place: bytes) -> None:
    trees.write_cdb(place + b"/cdb", [(b"ip4/k", b"A")])
    warnings: list[str] = []
    decompile(place + b"/out", place + b"/cdb", warn=warnings.append)
    assert trees.read_tree(place + b"/out") == {b"ip4": None, b"ip4/k": None, b"ip4/k/allow": b""}
    assert len(warnings) == 1


def test_records_with_one_key(place: bytes) -> None:
    first = record.encode(Rule(True, ((b"X", b"1"), (b"Y", b"2")), b"ls"))
    second = record.encode(Rule(True, ((b"X", b"longer"),)))
    tree = decompiled(
        place, (b"ip4/k", first), (b"ip4/k", second), (b"ip4/k", second), (b"uid/1", b"D"), (b"uid/1", b"D")
    )
    assert tree[b"ip4/k/env/X"] == b"longer\n"
    assert tree[b"ip4/k/env/Y"] == b"2\n"
    assert tree[b"ip4/k/exec"] == b"ls"


def test_a_later_record_never_turns_a_deny_into_an_allow(place: bytes) -> None:
    assert _refused(place, (b"ip4/k", b"D"), (b"ip4/k", PLAIN))
    assert b"ip4/k/allow" in decompiled(place, (b"ip4/k", PLAIN), (b"ip4/k", b"D"))


def test_the_directory_must_not_exist(place: bytes) -> None:
    trees.write_cdb(place + b"/cdb", [(b"ip4/k", PLAIN)])
    trees.write_tree(place + b"/out", {b"uid/1": Rule(False)})
    with pytest.raises(FileExistsError):
        decompile(place + b"/out", place + b"/cdb")
    os.symlink(b"nowhere", place + b"/link")
    with pytest.raises(FileExistsError):
        decompile(place + b"/link", place + b"/cdb")
    assert b"uid/1/deny" in trees.read_tree(place + b"/out")


@pytest.mark.parametrize("cdbfile", [b"/nothing", b"/empty", b""])
def test_without_a_cdb_there_is_no_directory(place: bytes, cdbfile: bytes) -> None:
    trees.write(place + b"/empty", b"")
    with pytest.raises((OSError, RuleSetError)):
        decompile(place + b"/out", place + cdbfile)
    assert os.listdir(place) == [b"empty"]


@pytest.mark.parametrize("step", range(3))
def test_stopping_at_any_checkpoint(place: bytes, step: int) -> None:
    trees.write_cdb(place + b"/cdb", [(b"ip4/%d" % n, PLAIN) for n in range(3)])
    steps = iter(range(100))

    def stop() -> None:
        if next(steps) == step:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        decompile(place + b"/out", place + b"/cdb", checkpoint=stop)
    assert os.listdir(place) == [b"cdb"]


@given(st.lists(st.tuples(st.binary(max_size=600), st.binary(max_size=40)), max_size=8))
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_dumping_gives_every_record_in_order(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[bytes, bytes]]
) -> None:
    cdbfile = os.fsencode(tmp_path_factory.mktemp("cdb")) + b"/cdb"
    trees.write_cdb(cdbfile, records)
    if all(len(key) <= MAX_KEY for key, _ in records):
        assert trees.records(cdbfile) == records
    else:
        with pytest.raises(MalformedRecord):
            trees.records(cdbfile)
