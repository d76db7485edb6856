"""Rule sets that change under a server: the next client meets what is there now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s6tls.accessrules import RuleSet, Verdict
from s6tls.accessrules.compile import compile_tree
from s6tls.stages.rulesource import CdbSource, DirectorySource
from tests.support.processes import await_that

CLIENT = b"192.0.2.7"
ALLOW, DENY, NOTFOUND, ERROR = Verdict.ALLOW, Verdict.DENY, Verdict.NOTFOUND, "error"


class Site:
    """A tree with one rule, and what it compiles to."""

    def __init__(self, place: Path) -> None:
        self.tree, self.cdb = place / "rules", place / "rules.cdb"
        self.tree.mkdir()

    def rule(self, verdict: str, name: str = "ip4/192.0.2.0_24") -> None:
        """Make this the only rule."""
        for old in (self.tree / name / "allow", self.tree / name / "deny"):
            old.unlink(missing_ok=True)
        (self.tree / name).mkdir(parents=True, exist_ok=True)
        (self.tree / name / verdict).touch()

    def compiled(self, verdict: str) -> bytes:
        """Return the bytes of a cdb whose only rule says this."""
        self.rule(verdict)
        compile_tree(os.fsencode(self.cdb) + b".bytes", os.fsencode(self.tree))
        return (self.cdb.parent / "rules.cdb.bytes").read_bytes()

    def install(self, verdict: str) -> None:
        """Compile as the command does: another file takes the name."""
        self.rule(verdict)
        compile_tree(os.fsencode(self.cdb), os.fsencode(self.tree))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(params=[True, False], ids=["private", "mapped"])
def source(request: pytest.FixtureRequest, site: Site) -> CdbSource:
    return CdbSource(os.fsencode(site.cdb), private=request.param)


def says(source: CdbSource | DirectorySource) -> Verdict | str:
    """Return the verdict, or ERROR when there is none to be had."""
    try:
        decision = source.ask(lambda rules: rules.check_address(CLIENT))
    except OSError:
        return ERROR
    return ERROR if decision.verdict is Verdict.ERROR else decision.verdict


def stand_for_long(path: Path) -> None:
    """Make a file look as if it had stood there for long (its change time is the kernel's, and stays)."""
    os.utime(path, (1_000_000_000, 1_000_000_000))


def test_another_file_under_the_name(site: Site, source: CdbSource) -> None:
    for verdict, expected in (("allow", ALLOW), ("deny", DENY), ("allow", ALLOW)):
        site.install(verdict)
        assert says(source) == says(source) == expected


def test_an_older_file_moved_back_counts_too(site: Site, source: CdbSource) -> None:
    site.install("deny")
    stand_for_long(site.cdb)
    old = site.cdb.rename(site.cdb.parent / "old")
    site.install("allow")
    assert says(source) == ALLOW
    old.rename(site.cdb)
    assert says(source) == DENY


def test_rewritten_in_place(site: Site, source: CdbSource) -> None:
    site.install("allow")
    assert says(source) == ALLOW
    site.cdb.write_bytes(site.compiled("deny"))
    assert says(source) == DENY


def test_rewritten_again_and_again_within_a_tick_of_the_files_clock(site: Site) -> None:
    source = CdbSource(os.fsencode(site.cdb), private=True)
    deny = site.compiled("deny") + b"padding"
    allow = site.compiled("allow")
    allow += b"x" * (len(deny) - len(allow))
    assert len(allow) == len(deny)
    site.cdb.write_bytes(deny)
    with open(site.cdb, "r+b", buffering=0) as file:
        for _ in range(300):
            for contents, expected in ((allow, ALLOW), (deny, DENY)):
                os.pwrite(file.fileno(), contents, 0)
                assert says(source) == expected


def test_truncated_is_an_error_until_it_is_whole_again(site: Site) -> None:
    source = CdbSource(os.fsencode(site.cdb), private=True)
    whole = site.compiled("allow")
    site.cdb.write_bytes(whole)
    assert says(source) == ALLOW
    for length in (len(whole) - 1, 2048, 100, 0):
        os.truncate(site.cdb, length)
        assert says(source) == ERROR
    site.cdb.write_bytes(whole)
    assert says(source) == ALLOW


def test_a_file_that_is_truncated_while_it_is_copied_is_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("allow")
    source = CdbSource(os.fsencode(site.cdb), private=True)
    opened = len(os.listdir("/proc/self/fd"))
    sendfile = os.sendfile

    def copy_and_truncate(out: int, given: int, offset: int | None, count: int) -> int:
        copied = sendfile(out, given, offset, count)
        os.truncate(site.cdb, 0)
        return copied

    with monkeypatch.context() as patch:
        patch.setattr(os, "sendfile", copy_and_truncate)
        with pytest.raises(OSError, match="cdb file changed while it was read"):
            source.ask(lambda rules: rules.check_address(CLIENT))
    assert len(os.listdir("/proc/self/fd")) == opened
    site.install("allow")
    assert says(source) == ALLOW


def test_broken_missing_or_no_file_is_an_error_and_never_an_allow(site: Site, source: CdbSource) -> None:
    site.install("allow")
    whole = site.cdb.read_bytes()
    assert says(source) == ALLOW

    site.cdb.unlink()
    assert says(source) == ERROR
    site.cdb.mkdir()
    assert says(source) == ERROR
    site.cdb.rmdir()
    os.mkfifo(site.cdb)
    assert says(source) == ERROR
    site.cdb.unlink()
    site.cdb.write_bytes(b"x" * len(whole))
    assert says(source) == ERROR
    site.cdb.unlink()
    site.cdb.symlink_to(site.cdb)
    assert says(source) == ERROR
    site.cdb.unlink()
    site.cdb.write_bytes(whole)
    assert says(source) == ALLOW


def test_a_malformed_record_is_an_error(site: Site, source: CdbSource) -> None:
    whole = site.compiled("allow")
    value = b"A\0\0\0\0"
    assert whole.count(value) == 1
    site.cdb.write_bytes(whole.replace(value, b"A\0\1\0\0"))
    assert says(source) == ERROR


def test_an_unchanged_file_is_not_read_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("allow")
    source = CdbSource(os.fsencode(site.cdb), private=True)
    opened = len(os.listdir("/proc/self/fd"))
    await_that(lambda: says(source) == ALLOW and source._stable)
    first = source._rules
    assert all(says(source) == ALLOW for _ in range(100))
    assert source._rules is first
    assert len(os.listdir("/proc/self/fd")) <= opened + 2  # the file, and the mapping's own


def test_a_directory_is_read_afresh(site: Site) -> None:
    source = DirectorySource(os.fsencode(site.tree))
    assert says(source) == NOTFOUND
    for verdict, expected in (("allow", ALLOW), ("deny", DENY), ("allow", ALLOW)):
        site.rule(verdict)
        assert says(source) == expected
    site.rule("deny", "ip4/192.0.2.7_32")
    assert says(source) == DENY


def test_a_directory_that_is_not_there_holds_no_rules_and_a_file_is_an_error(site: Site) -> None:
    assert says(DirectorySource(b"/nowhere")) == NOTFOUND
    assert says(DirectorySource(b"/etc/passwd")) == ERROR


def test_a_bad_file_costs_little_and_is_looked_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    source = CdbSource(os.fsencode(site.cdb), private=True)
    with open(site.cdb, "wb") as file:
        file.truncate(1 << 30)
    opened = 0

    def copied(*_: object) -> int:
        raise AssertionError("nothing of such a file is to be copied")

    def counted(path: bytes, *, private: bool) -> RuleSet:
        nonlocal opened
        opened += 1
        return original(path, private=private)

    original = RuleSet.open_cdb
    monkeypatch.setattr(os, "sendfile", copied)
    monkeypatch.setattr(RuleSet, "open_cdb", counted)
    await_that(lambda: says(source) == ERROR and source._stable)
    opened = 0
    assert [says(source) for _ in range(5)] == [ERROR] * 5 and not opened
    monkeypatch.undo()
    site.install("allow")
    assert says(source) == ALLOW


def test_what_follows_the_tables_is_not_copied(site: Site) -> None:
    site.install("allow")
    size = site.cdb.stat().st_size
    os.truncate(site.cdb, 1 << 30)
    source = CdbSource(os.fsencode(site.cdb), private=True)
    assert says(source) == ALLOW
    assert os.fstat(source._current()._backend.descriptor).st_size == size  # type: ignore[attr-defined]
