"""Explanations, beside the rule set that decides and the longest-prefix model."""

from __future__ import annotations

import os
from pathlib import Path

import cdbx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import Rule, RuleSet, Verdict
from s6tls.accessrules.cdb import write_cdb
from s6tls.accessrules.errors import AddressError, RuleSetError
from s6tls.audit.core.networks import Family
from s6tls.audit.questions.explain import Explainer
from tests.support.rules import spaces, trees


@given(spaces.rule_sets(), spaces.families, st.data())
def test_explanations_agree_with_brute_force(
    tmp_path_factory: pytest.TempPathFactory, rules: spaces.Rules, family: Family, data: st.DataObject
) -> None:
    path = os.fsencode(tmp_path_factory.mktemp("explain")) + b"/rules.cdb"
    write_cdb(path, rules.items())
    explainer = Explainer(path)
    for number in data.draw(st.lists(st.sampled_from(spaces.clients(family)), max_size=10)):
        address = family.text(number)
        found = explainer.explain(address)
        key, rule = spaces.decide(rules, family, number)
        assert (found.decision.rule, found.rule) == (key, rule)
        asked = [spaces.KEY[family](number, length) for length in range(family.bits, -1, -1)]
        assert list(found.probes) == (asked[: asked.index(key) + 1] if key else asked)
        assert found.decision == RuleSet.open(path).check_address(address)
        assert not found.needs_name
    explainer.close()


RULES = {
    b"ip4/192.0.2.0_24": Rule(True, ((b"A", b"1"), (b"B", None)), b"echo hello"),
    b"reversedns/example.org": Rule(True),
}


@pytest.fixture(params=["tree", "cdb"])
def explainer(request: pytest.FixtureRequest, tmp_path: Path) -> Explainer:
    path = str(tmp_path / "rules")
    trees.write_form(request.param, path, RULES)
    found = Explainer(path)
    request.addfinalizer(found.close)
    return found


def test_json(explainer: Explainer) -> None:
    found = explainer.explain("192.0.2.1").json()
    assert found.pop("probes")[-1] == "ip4/192.0.2.0_24"
    assert found == {
        "address": "192.0.2.1",
        "verdict": "allow",
        "rule": "ip4/192.0.2.0_24",
        "env": {"set": {"A": "1"}, "unset": ["B"]},
        "exec": "echo hello",
        "needs_name": False,
    }


def test_a_name_is_needed_where_rules_by_name_could_decide(explainer: Explainer) -> None:
    assert explainer.explain("203.0.113.1").needs_name
    named = explainer.explain("203.0.113.1", "www.Example.org.")
    assert named.decision.verdict is Verdict.ALLOW and not named.needs_name
    assert named.probes[-3:] == (b"ip4/0.0.0.0_0", b"reversedns/www.example.org", b"reversedns/example.org")
    other = explainer.explain("203.0.113.1", "example.net")
    assert other.rule is None and other.probes[-1] == b"reversedns/@" and not other.needs_name


def test_names_matter_only_if_a_lookup_finds_a_rule_by_name(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "rules.cdb")
    with open(path, "w+b") as file:
        maker = cdbx.CDB.make(file.fileno(), mmap=False)
        for key, value in ((b"example.org", b"X"), (b"example.org", b"D"), (b"@", b"a")):
            maker.add(b"reversedns/" + key, value)
        maker.commit()
    found = Explainer(path)
    assert not found.explain("203.0.113.1").needs_name
    found.close()


@pytest.mark.parametrize(("broken", "needs_name"), [("ip4", False), ("reversedns", True)])
def test_rules_that_cannot_be_read_hinder_only_their_own_clients(tmp_path: Path, broken: str, needs_name: bool) -> None:
    (tmp_path / "stray").touch()
    rule = tmp_path / broken / "192.0.2.0_24"
    (rule / "env" / "A").mkdir(parents=True)
    (rule / "allow").touch()
    found = Explainer(os.fsencode(tmp_path))
    explained = found.explain("203.0.113.1")
    assert (explained.rule, explained.needs_name) == (None, needs_name)
    found.close()


def test_of_several_changes_to_a_variable_the_last_is_told(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "rules.cdb")
    env = ((b"B", b"1"), (b"A", b"1"), (b"B", None), (b"A", None), (b"A", b"2"))
    write_cdb(path, [(b"ip4/0.0.0.0_0", Rule(True, env))])
    found = Explainer(path)
    explained = found.explain("203.0.113.1")
    assert explained.decision.env == ((b"A", b"2"), (b"B", None))
    assert explained.json()["env"] == {"set": {"A": "2"}, "unset": ["B"]}
    found.close()


def test_a_name_changes_nothing_where_the_address_decides(explainer: Explainer) -> None:
    found = explainer.explain("192.0.2.9", "example.net")
    assert found.decision.rule == b"ip4/192.0.2.0_24" == found.probes[-1]


def test_what_cannot_be_explained(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "rules")
    trees.write_tree(path, RULES)
    found = Explainer(path)
    with pytest.raises(AddressError):
        found.explain("192.0.2")
    (tmp_path / "rules" / "ip4" / "192.0.2.0_24" / "env" / "A").unlink()
    (tmp_path / "rules" / "ip4" / "192.0.2.0_24" / "env" / "A").mkdir()
    with pytest.raises(RuleSetError):
        found.explain("192.0.2.1")
    found.close()
