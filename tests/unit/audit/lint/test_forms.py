"""What lint finds in trees and in cdb files, where their form matters."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cdbx
import pytest
from hypothesis import given

from s6tls.accessrules import Rule, RuleSetError
from s6tls.accessrules.cdb import write_cdb
from s6tls.audit.lint.findings import Finding, Severity
from s6tls.audit.lint.run import lint
from tests.support.rules import trees

RULES = Path(__file__).parents[4] / "rules"
ONE = "ip4/10.0.0.0_8"
GOOD = {b"ip4/10.0.0.0_8": Rule(True, ((b"A", b"1"),), b"echo hello"), b"ip4/0.0.0.0_0": Rule(False)}
GOOD[b"ip6/::_0"] = Rule(False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    trees.write_tree(os.fsencode(tmp_path / "tree"), GOOD)
    return tmp_path / "tree"


def told(path: Path) -> list[tuple[str, str, str | None]]:
    return [
        (found.severity.word, found.code, None if found.rule is None else os.fsdecode(found.rule))
        for found in lint(str(path))
    ]


def only(path: Path) -> Finding:
    (found,) = lint(str(path))
    return found


def test_a_good_tree(tree: Path) -> None:
    assert told(tree) == []


def _make(path: str, contents: bytes = b"") -> Callable[[Path], None]:
    return lambda tree: trees.write(os.fsencode(tree / path), contents)


def _link(path: str, to: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        (tree / path).unlink(missing_ok=True)
        (tree / path).symlink_to(to)

    return change


def _mode(path: str, mode: int) -> Callable[[Path], None]:
    return lambda tree: (tree / path).chmod(mode)


def _in_place(path: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        place = tree / path
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        make(place)

    return change


CHANGES: dict[str, tuple[Callable[[Path], None], str, str, str | None]] = {
    "both verdicts": (_make(f"{ONE}/deny"), "error", "allow-and-deny", ONE),
    "env without allow": (
        lambda tree: (tree / "ip4/0.0.0.0_0/env").mkdir(),
        "warning",
        "without-allow",
        "ip4/0.0.0.0_0",
    ),
    "exec without allow": (_make("ip4/0.0.0.0_0/exec", b"x"), "warning", "without-allow", "ip4/0.0.0.0_0"),
    "no verdict": (lambda tree: (tree / "ip4/11.0.0.0_8").mkdir(), "warning", "no-verdict", "ip4/11.0.0.0_8"),
    "another file": (_make(f"{ONE}/Deny"), "warning", "unknown-file", ONE),
    "long exec": (_make(f"{ONE}/exec", b"x" * 4097), "error", "exec-cut", ONE),
    "large environment": (_make(f"{ONE}/env/B", b"x" * 4094), "error", "env-too-large", ONE),
    "name with =": (_make(f"{ONE}/env/A=B", b"1"), "warning", "ignored-variable", ONE),
    "name with a dot": (_make(f"{ONE}/env/.B", b"1"), "note", "ignored-variable", ONE),
    "second line": (_make(f"{ONE}/env/A", b"1\n2\n"), "warning", "value-loses-text", ONE),
    "empty first line": (_make(f"{ONE}/env/A", b"\n2\n"), "warning", "value-loses-text", ONE),
    "blanks": (_make(f"{ONE}/env/A", b"1 \n"), "warning", "value-loses-text", ONE),
    "carriage return": (_make(f"{ONE}/env/A", b"1\r\n"), "warning", "value-loses-text", ONE),
    "dangling deny": (_link("ip4/0.0.0.0_0/deny", "/no/such/file"), "error", "dangling-link", "ip4/0.0.0.0_0"),
    "dangling exec": (_link(f"{ONE}/exec", "nowhere"), "error", "dangling-link", ONE),
    "circular allow": (_link(f"{ONE}/allow", "allow"), "error", "unreadable", ONE),
    "unreadable deny": (_mode("ip4/0.0.0.0_0/deny", 0), "error", "unreadable", "ip4/0.0.0.0_0"),
    "unreadable allow": (_mode(f"{ONE}/allow", 0), "error", "unreadable", ONE),
    "unreadable exec": (_mode(f"{ONE}/exec", 0), "error", "unreadable", ONE),
    "unreadable variable": (_mode(f"{ONE}/env/A", 0), "error", "unreadable", ONE),
    "unreadable env": (_mode(f"{ONE}/env", 0), "error", "unreadable", ONE),
    "closed rule": (_mode(ONE, 0), "error", "unreadable", ONE),
    "env is a file": (
        _in_place(f"{ONE}/env", lambda place: trees.write(bytes(place), b"")),
        "error",
        "unreadable",
        ONE,
    ),
    "exec is a directory": (_in_place(f"{ONE}/exec", Path.mkdir), "error", "unreadable", ONE),
    "exec is a FIFO": (_in_place(f"{ONE}/exec", os.mkfifo), "error", "unreadable", ONE),
    "variable is a FIFO": (_in_place(f"{ONE}/env/A", os.mkfifo), "error", "unreadable", ONE),
    "variable is a directory": (_in_place(f"{ONE}/env/A", Path.mkdir), "error", "unreadable", ONE),
    "rule is a file": (_make("ip4/11.0.0.0_8"), "error", "unreadable", "ip4/11.0.0.0_8"),
    "family is a file": (_make("README"), "error", "unreadable", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_for_the_worse(tree: Path, change: str) -> None:
    make, severity, code, rule = CHANGES[change]
    make(tree)
    assert (severity, code, rule) in told(tree)
    assert {found.code for found in lint(str(tree))} - {code} <= {
        "no-verdict",
        "family-undecided",
        "no-catch-all",
        "lets-nobody-in",
    }


HARMLESS: dict[str, Callable[[Path], None]] = {
    "hidden": _make("ip4/.git"),
    "hidden family": _make(".git"),
    "hidden in a rule": _make(f"{ONE}/.note"),
    "link": _link(f"{ONE}/allow", "exec"),
    "exec that just fits": _make(f"{ONE}/exec", b"x" * 4096),
    "unset variable": _make(f"{ONE}/env/B"),
    "newlines at the end": _make(f"{ONE}/env/B", b"1\n\n"),
    "value that just fits": _make(f"{ONE}/env/A", b"x" * 4000),
    "broken things that do not count": _link("ip4/0.0.0.0_0/.exec", "nowhere"),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_a_change_that_is_none(tree: Path, change: str) -> None:
    HARMLESS[change](tree)
    assert told(tree) == []


def test_a_long_value_loses_its_end(tree: Path) -> None:
    (tree / ONE / "env/A").write_bytes(b"x" * 4096)
    assert told(tree) == [("error", "env-too-large", ONE), ("warning", "value-loses-text", ONE)]


def test_a_domain_with_a_dot_is_passed_over(tree: Path) -> None:
    (tree / "reversedns/.example.org").mkdir(parents=True)
    found = only(tree)
    assert (found.code, found.severity, found.rule) == ("hidden-rule", Severity.WARNING, b"reversedns/.example.org")


def test_what_an_unreadable_deny_means_is_said(tree: Path) -> None:
    (tree / "ip4/0.0.0.0_0/deny").chmod(0)
    assert "a broader rule may let the client in" in only(tree).message


def test_a_family_that_nobody_may_read(tree: Path) -> None:
    (tree / "ip4").chmod(0)
    assert ("error", "unreadable", None) in told(tree)


def test_a_tree_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        lint(str(tmp_path / "none"))


@given(trees.rule_sets)
def test_both_forms_have_the_same_findings(tmp_path_factory: pytest.TempPathFactory, rules: trees.Rules) -> None:
    place = os.fsencode(tmp_path_factory.mktemp("forms"))
    trees.write_tree(place + b"/tree", rules)
    write_cdb(place + b"/cdb", rules.items())
    of_tree = {found for found in lint(place + b"/tree") if found.code != "value-loses-text"}
    assert of_tree == set(lint(place + b"/cdb"))


# Files of other programs: records that no compiler of ours writes


def cdb(path: Path, *records: tuple[bytes, bytes]) -> Path:
    with path.open("w+b") as file:
        maker = cdbx.CDB.make(file.fileno(), mmap=False)
        for key, value in records:
            maker.add(key, value)
        maker.commit()
    return path


def test_records(tmp_path: Path) -> None:
    path = cdb(
        tmp_path / "cdb",
        (b"ip4/0.0.0.0_0", b"D"),
        (b"ip6/::_0", b"D"),
        (b"ip4/0.0.0.0_0", b"A\0\0\0\0"),
        (b"ip4/10.0.0.0_8", b"A\0"),
        (b"ip4/10.0.0.0_8", b"D"),
        (b"ip4/11.0.0.0_8", b"X"),
        (b"ip4/12.0.0.0_8", b""),
        (b"key", b"A\0\0\0\0"),
    )
    assert told(path) == [
        ("error", "unreadable", "ip4/10.0.0.0_8"),
        ("error", "unreadable", "ip4/12.0.0.0_8"),
        ("error", "not-a-key", "key"),
        ("warning", "duplicate", "ip4/0.0.0.0_0"),
        ("warning", "duplicate", "ip4/10.0.0.0_8"),
        ("warning", "no-verdict", "ip4/11.0.0.0_8"),
    ]


def test_what_is_no_cdb(tmp_path: Path) -> None:
    (tmp_path / "cdb").write_bytes(b"x" * 3000)
    with pytest.raises(RuleSetError):
        lint(str(tmp_path / "cdb"))


# The rule sets that are handed out

# These serve IPv4 alone, as their pages say by the address that they listen at: 0.0.0.0.
FOR_IP4_ONLY = {"certificates", "maintenance", "users"}


@pytest.mark.parametrize("name", sorted(path.parent.name for path in RULES.glob("*/tree")))
def test_the_rule_sets_that_are_handed_out(name: str) -> None:
    found = [(found.code, found.rule) for found in lint(str(RULES / name / "tree"), least=Severity.WARNING)]
    assert found == ([("family-undecided", None)] if name in FOR_IP4_ONLY else [])
