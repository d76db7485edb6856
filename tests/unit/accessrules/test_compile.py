"""From trees to cdb files, judged by other people's programs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import cdblib
import pytest
from hypothesis import HealthCheck, given, settings

from s6tls.accessrules import Rule, RuleSet, RuleSetError
from s6tls.accessrules.compile import compile_tree
from s6tls.accessrules.decompile import decompile
from s6tls.accessrules.errors import UsageProblem
from s6tls.accessrules.tree import read_tree
from tests.support.rules import trees
from tests.support.rules.trees import Rules

DEBIAN = "/usr/bin/s6-accessrules-cdb-from-fs"
SOME: Rules = {
    b"ip4/10.0.0.0_8": Rule(True, ((b"A", b"1"), (b"B", None)), b"echo\n"),
    b"ip4/10.1.0.0_16": Rule(False),
    b"custom/\xff\n name": Rule(True),
}


@pytest.fixture
def place(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path)


@given(trees.rule_sets)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_the_same_records_as_debians_program_writes(tmp_path_factory: pytest.TempPathFactory, rules: Rules) -> None:
    here = os.fsencode(tmp_path_factory.mktemp("rules"))
    trees.write_tree(here + b"/rules", rules)
    compile_tree(here + b"/ours", here + b"/rules")
    subprocess.run([DEBIAN, here + b"/theirs", here + b"/rules"], check=True)
    assert _with_sorted_env(here + b"/ours") == _with_sorted_env(here + b"/theirs")


def _with_sorted_env(cdbfile: bytes) -> dict[bytes, bytes]:
    """Read a cdb file with pure-cdb; the order of variables is that of readdir, and means nothing."""
    with open(cdbfile, "rb") as file:
        records = dict(cdblib.Reader(file.read()).items())
    for key, value in records.items():
        if value[:1] == b"A":
            end = 3 + int.from_bytes(value[1:3], "big")
            records[key] = value[:3] + b"\0".join(sorted(value[3:end].split(b"\0"))) + value[end:]
    return records


@given(trees.rule_sets)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_decompiling_and_compiling_again_gives_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, rules: Rules
) -> None:
    here = os.fsencode(tmp_path_factory.mktemp("rules"))
    trees.write_tree(here + b"/rules", rules)
    compile_tree(here + b"/first", here + b"/rules")
    decompile(here + b"/again", here + b"/first")
    compile_tree(here + b"/second", here + b"/again")
    assert trees.read_tree(here + b"/again") == trees.read_tree(here + b"/rules")
    assert Path(os.fsdecode(here), "first").read_bytes() == Path(os.fsdecode(here), "second").read_bytes()
    assert dict(read_tree(here + b"/rules")) == rules


def test_tinycdb_reads_what_we_write_and_we_read_what_it_writes(place: bytes) -> None:
    trees.write_tree(place + b"/rules", SOME)
    compile_tree(place + b"/ours", place + b"/rules")
    dumped = subprocess.run(["cdb", "-d", place + b"/ours"], check=True, capture_output=True).stdout
    subprocess.run(["cdb", "-c", place + b"/theirs"], input=dumped, check=True)
    assert trees.records(place + b"/ours") == trees.records(place + b"/theirs")
    assert b"+14,16:ip4/10.0.0.0_8->A\0\x06A=1\0B\0\0\x05echo\n" in dumped
    with RuleSet.open(place + b"/theirs") as rules:
        assert rules.check_address("10.9.9.9").exec == b"echo\n"


def test_what_starts_with_a_dot_is_passed_over(place: bytes) -> None:
    trees.write_tree(place + b"/rules", SOME)
    for path in (b"/rules/.git", b"/rules/ip4/.keep"):
        trees.write(place + path, b"x")
    compile_tree(place + b"/cdb", place + b"/rules")
    assert [key for key, _ in trees.records(place + b"/cdb")] == sorted(SOME)


def test_a_rule_without_verdict_does_not_exist(place: bytes) -> None:
    os.makedirs(place + b"/rules/ip4/10.0.0.0_8/env")
    compile_tree(place + b"/cdb", place + b"/rules")
    assert trees.records(place + b"/cdb") == []


@pytest.mark.parametrize("size", [4095, 4096, 4097, 100_000])
def test_exec_is_cut_with_a_warning(place: bytes, size: int) -> None:
    trees.write_tree(place + b"/rules", {b"uid/1": Rule(True, (), b"x" * size)})
    warnings: list[str] = []
    compile_tree(place + b"/cdb", place + b"/rules", warn=warnings.append)
    assert len(warnings) == (size >= 4096)
    assert [len(value) for _, value in trees.records(place + b"/cdb")] == [5 + min(size, 4096)]


@pytest.mark.parametrize("mode", [None, 0o600, 0o644, 0o400, 0, 0o4755])
def test_permissions_do_not_depend_on_the_umask(place: bytes, mode: int | None) -> None:
    trees.write_tree(place + b"/rules", SOME)
    before = os.umask(0o027)
    try:
        if mode is None:
            compile_tree(place + b"/cdb", place + b"/rules")
        else:
            compile_tree(place + b"/cdb", place + b"/rules", mode=mode)
    finally:
        os.umask(before)
    assert os.stat(place + b"/cdb").st_mode & 0o7777 == (0o600 if mode is None else mode)


def test_all_is_on_the_disk_before_the_old_file_goes(place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.write_tree(place + b"/rules", SOME)
    compile_tree(place + b"/first", place + b"/rules")
    size = os.stat(place + b"/first").st_size
    steps: list[tuple[str, int]] = []
    fsync, rename = os.fsync, os.rename

    def seen_fsync(descriptor: int) -> None:
        steps.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def seen_rename(source: bytes, target: bytes) -> None:
        steps.append(("rename", os.stat(source).st_size))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "rename", seen_rename)
    compile_tree(place + b"/cdb", place + b"/rules")
    assert steps == [("fsync", size), ("rename", size)]


class TestFailure:
    """Whatever fails, the old file stays and nothing is left beside it."""

    @pytest.fixture(autouse=True)
    def old_file(self, place: bytes) -> None:
        trees.write_tree(place + b"/rules", SOME)
        trees.write(place + b"/cdb", b"old")

    def _check(self, place: bytes, error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            compile_tree(place + b"/cdb", place + b"/rules")
        self._check_untouched(place)

    def _check_untouched(self, place: bytes) -> None:
        assert sorted(os.listdir(place)) == [b"cdb", b"rules"]
        with open(place + b"/cdb", "rb") as file:
            assert file.read() == b"old"

    @pytest.mark.parametrize("stray", [b"stray", b"ip4/stray", b"ip4/10.0.0.0_8/env/dir/x", b"ip4/10.1.0.0_16/allow/x"])
    def test_stray_files(self, place: bytes, stray: bytes) -> None:
        path = place + b"/rules/" + stray
        os.makedirs(os.path.dirname(path), exist_ok=True)
        trees.write(path, b"")
        if stray.endswith(b"allow/x"):
            os.symlink(b"exec", place + b"/rules/ip4/10.1.0.0_16/exec")
        self._check(place, RuleSetError, "unable to (read|open)")

    def test_a_variable_that_is_a_dangling_link(self, place: bytes) -> None:
        os.symlink(b"nowhere", place + b"/rules/ip4/10.0.0.0_8/env/X")
        self._check(place, RuleSetError, re.escape("ip4/10.0.0.0_8: No such file"))

    def test_too_large_an_environment(self, place: bytes) -> None:
        trees.write(place + b"/rules/ip4/10.0.0.0_8/env/X", b"v" * 4095)
        self._check(place, UsageProblem, r"ip4/10\.0\.0\.0_8: environment takes 4104 bytes")

    def test_no_tree(self, place: bytes) -> None:
        os.rename(place + b"/rules", place + b"/gone")
        with pytest.raises(RuleSetError, match="No such file"):
            compile_tree(place + b"/cdb", place + b"/rules")
        os.rename(place + b"/gone", place + b"/rules")
        self._check_untouched(place)

    def test_no_place_for_the_file(self, place: bytes) -> None:
        with pytest.raises(FileNotFoundError):
            compile_tree(place + b"/nowhere/cdb", place + b"/rules")
        os.mkdir(place + b"/directory")
        with pytest.raises(IsADirectoryError):
            compile_tree(place + b"/directory", place + b"/rules")
        os.rmdir(place + b"/directory")
        self._check_untouched(place)

    @pytest.mark.parametrize("step", range(4))
    def test_stopping_at_any_checkpoint(self, place: bytes, step: int) -> None:
        steps = iter(range(100))

        def stop() -> None:
            if next(steps) == step:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            compile_tree(place + b"/cdb", place + b"/rules", checkpoint=stop)
        self._check_untouched(place)
