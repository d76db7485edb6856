"""Whole rule sets in memory, from both forms."""

from __future__ import annotations

import os
from pathlib import Path

import cdbx
import pytest
from hypothesis import given

from s6tls.accessrules import MalformedRecord, Rule, RuleSetError
from s6tls.accessrules.cdb import write_cdb
from s6tls.audit.core.loaded import LoadedRules
from tests.support.rules import trees


@given(trees.rule_sets)
def test_both_forms_have_the_same_contents(tmp_path_factory: pytest.TempPathFactory, rules: trees.Rules) -> None:
    place = os.fsencode(tmp_path_factory.mktemp("forms"))
    trees.write_tree(place + b"/tree", rules)
    write_cdb(place + b"/cdb", rules.items())
    tree, cdb = LoadedRules.load(place + b"/tree"), LoadedRules.load(place + b"/cdb")
    assert tree.is_tree and not cdb.is_tree
    assert tree.rules == cdb.rules == rules


def test_rules_that_decide_equally_are_equal() -> None:
    one = Rule(True, ((b"A", b"1"), (b"B", None)))
    other = Rule(True, ((b"B", b"2"), (b"A", b"1"), (b"B", None)))
    kept = LoadedRules.of([(b"ip4/0.0.0.0_0", one), (b"ip6/::_0", other)]).rules
    assert kept[b"ip4/0.0.0.0_0"] is kept[b"ip6/::_0"]


def test_of_several_records_with_one_key_that_counts_which_a_lookup_finds(tmp_path: Path) -> None:
    place = tmp_path / "rules.cdb"
    write_cdb(str(place), [(b"ip4/0.0.0.0_0", Rule(False)), (b"ip4/0.0.0.0_0", Rule(True))])
    assert LoadedRules.load(str(place)).rules == {b"ip4/0.0.0.0_0": Rule(False)}


def test_faults_are_told_or_raised(tmp_path: Path) -> None:
    place = str(tmp_path / "rules.cdb")
    with open(place, "w+b") as file:
        maker = cdbx.CDB.make(file.fileno(), mmap=False)
        for key, value in ((b"ip4/1.0.0.0_8", b"A"), (b"ip4/2.0.0.0_8", b"D"), (b"ip4/3.0.0.0_8", b"X")):
            maker.add(key, value)
        maker.commit()
    with pytest.raises(MalformedRecord):
        LoadedRules.load(place)
    faults: list[bytes] = []
    found = LoadedRules.load(place, fault=lambda key, _: faults.append(key))
    assert found.rules == {b"ip4/2.0.0.0_8": Rule(False)}
    assert faults == [b"ip4/1.0.0.0_8"]


def test_a_record_that_lookups_miss_is_a_fault(tmp_path: Path) -> None:
    place = tmp_path / "rules.cdb"
    write_cdb(str(place), [(b"ip4/0.0.0.0_0", Rule(True))])
    whole = place.read_bytes()
    table = whole.rindex(b"\0" * 16) if whole.endswith(b"\0" * 16) else len(whole) - 16
    place.write_bytes(whole[:table] + b"\0" * 16)
    with pytest.raises(RuleSetError, match=r"ip4/0\.0\.0\.0_0"):
        LoadedRules.load(str(place))


def test_faults_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "ip4" / "stray").parent.mkdir()
    (tmp_path / "ip4" / "10.0.0.0_8").write_text("")
    (tmp_path / "stray").write_text("")
    with pytest.raises(RuleSetError):
        LoadedRules.load(str(tmp_path))
    faults: list[bytes] = []
    assert LoadedRules.load(str(tmp_path), fault=lambda key, _: faults.append(key)).rules == {}
    assert faults == [b"ip4/10.0.0.0_8", b"stray"]
