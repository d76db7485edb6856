"""Audits of a rule set that is replaced while they look at it: each sees the set that it opened, and no other."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.accessrules.cdb import write_cdb
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.lint.run import lint
from s6tls.audit.questions.explain import Explainer
from s6tls.audit.report.report import report
from s6tls.cli.accessrules import diff, export, map, minimise
from s6tls.cli.s6_accessrules_cdb_from_fs import compile_from
from tests.support.rules import trees

ALLOW, DENY, STAFF = Rule(True), Rule(False), Rule(True, ((b"ROLE", b"staff"),))
# Keys of one with the values of the other would let everybody in.
OLD = {b"ip4/0.0.0.0_1": DENY, b"ip4/128.0.0.0_1": DENY, b"ip4/10.0.0.0_8": STAFF, b"reversedns/@": DENY}
NEW = {b"ip4/0.0.0.0_1": ALLOW, b"ip4/128.0.0.0_1": ALLOW, b"ip4/0.0.0.0_2": DENY, b"ip6/::_0": DENY}


class Place:
    """Where a rule set stands, under a name that can be given to another one."""

    def __init__(self, path: Path, form: str) -> None:
        self.path, self._form = path, form
        self.rules = os.fsencode(path / f"rules.{form}")
        for name, rules in (("old", OLD), ("new", NEW)):
            if form == "cdb":
                write_cdb(str(path / name), rules.items())
            else:
                trees.write_tree(os.fsencode(path / name), rules)

    def install(self, name: str) -> None:
        """Give the name to a set as a careful administrator does: by a rename."""
        fresh = self.path / "fresh"
        if self._form == "cdb":
            os.link(self.path / name, fresh)
        else:
            fresh.symlink_to(name)
        os.rename(fresh, self.rules)


@pytest.fixture(params=["cdb", "tree"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, request.param)


_opening: Callable[[object], None] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opening is not None:
        _opening(arguments[0])


sys.addaudithook(_watch)  # which stays, and does nothing out of the block below


@contextlib.contextmanager
def replaced_before_it_is_opened_again(place: Place) -> Iterator[list[object]]:
    """Hand over the openings of the rule set by its name; all but the first find another set there."""
    global _opening
    openings: list[object] = []

    def note(path: object) -> None:
        if isinstance(path, str | bytes) and os.fsencode(path) == place.rules:
            if openings:
                place.install("new")
            openings.append(path)

    _opening = note
    try:
        yield openings
    finally:
        _opening = None


def explained(place: Place) -> object:
    explainer = Explainer(place.rules)
    found = [explainer.explain(address).json() for address in ("10.0.0.1", "203.0.113.1", "2001:db8::1")]
    explainer.close()
    return found


def made(body: Callable[[list[bytes]], int], *words: bytes) -> Callable[[Place], object]:
    """Return what a command writes to its last word, OUT, in the place of the first word RULES, and its code."""

    def audit(place: Place) -> object:
        out = os.fsencode(place.path / "out.svg")
        named = {b"RULES": place.rules, b"OUT": out}
        code = body([named.get(word, word) for word in words])
        if not os.path.exists(out):
            return code
        if os.path.isdir(out):
            tree = trees.read_tree(out)
            shutil.rmtree(out)
            return code, tree
        with open(out, "rb") as file:
            data = file.read()
        os.unlink(out)
        return code, data

    return audit


AUDITS: dict[str, Callable[[Place], object]] = {
    "load": lambda place: LoadedRules.load(place.rules),
    "lint": lambda place: lint(place.rules),
    "report": lambda place: report(place.rules),
    "explain": explained,
    "minimise": made(minimise.body, b"RULES", b"OUT"),
    "export": made(export.body, b"text", b"RULES", b"OUT"),
    "map": made(map.body, b"RULES", b"OUT"),
}


@pytest.mark.parametrize("audit", AUDITS)
def test_an_audit_opens_a_rule_set_once(place: Place, audit: str) -> None:
    place.install("old")
    expected = AUDITS[audit](place)
    with replaced_before_it_is_opened_again(place) as openings:
        assert AUDITS[audit](place) == expected
    assert len(openings) == 1


def test_a_comparison_opens_each_once(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.install("old")
    with replaced_before_it_is_opened_again(place) as openings:
        assert diff.body([place.rules, os.fsencode(place.path / "old")]) == 0
    assert len(openings) == 1 and capsys.readouterr().out == "no differences\n"


@pytest.mark.parametrize("options", [[], [b"--strict"]])
def test_what_is_compiled_is_what_was_judged(tmp_path: Path, options: list[bytes]) -> None:
    place = Place(tmp_path, "tree")
    place.install("old")
    with replaced_before_it_is_opened_again(place) as openings:
        assert compile_from([*options, os.fsencode(tmp_path / "out.cdb"), place.rules]) == 0
    assert len(openings) == 1
    assert LoadedRules.load(str(tmp_path / "out.cdb")).rules == OLD


def test_permissions_are_those_of_what_was_read(tmp_path: Path) -> None:
    place = Place(tmp_path, "cdb")
    (tmp_path / "old").chmod(0o600)
    (tmp_path / "new").chmod(0o644)
    place.install("old")
    contents = LoadedRules.load(place.rules)
    place.install("new")
    assert (contents.mode, LoadedRules.load(place.rules).mode) == (0o600, 0o644)


def test_no_audit_mixes_two_sets_that_take_turns(place: Place) -> None:
    place.install("old")
    done = threading.Event()

    def take_turns() -> None:
        while not done.is_set():
            for name in ("new", "old"):
                place.install(name)

    turns = threading.Thread(target=take_turns)
    turns.start()
    try:
        seen = [LoadedRules.load(place.rules).rules for _ in range(300)]
    finally:
        done.set()
        turns.join()
    assert all(rules in (OLD, NEW) for rules in seen)
