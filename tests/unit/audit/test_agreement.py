"""The audits agree with each other, on rule sets that hypothesis thinks up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given

from s6tls.accessrules.cdb import write_cdb
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.logs.log import Log
from s6tls.audit.logs.replay import Replay
from s6tls.audit.minimise.minimise import minimise
from s6tls.audit.questions.coverage import coverage
from s6tls.audit.questions.diff import differences, other_differences
from s6tls.audit.questions.explain import Explainer
from tests.support.rules import spaces
from tests.support.rules.trees import rule_sets as any_rule_sets


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agreement")


def replayed(
    place: Path, contents: LoadedRules, numbers: range, family: Family, against: LoadedRules | None = None
) -> Replay:
    """Replay a log with one line for each of these addresses."""
    (place / "log").write_text("".join(f"{family.text(number)}\n" for number in numbers))
    replay = Replay(contents, against)
    replay.read(Log(os.fsencode(place / "log")))
    replay.finish()
    return replay


@given(spaces.rule_sets(), spaces.families)
def test_replay_of_all_clients_counts_what_coverage_counts(place: Path, rules: spaces.Rules, family: Family) -> None:
    """All rules but those within the base network are taken away, so that its 256 addresses are all that matters."""
    base = spaces.BASES[family]
    inside = {key: rule for key, rule in rules.items() if int(key.rpartition(b"_")[2]) >= family.bits - 8}
    contents = LoadedRules.of(inside.items())
    found = coverage(contents, family)
    replay = replayed(place, contents, range(base, base + 256), family)
    assert (replay.verdicts["allow"], replay.verdicts["deny"]) == (found.allow, found.deny)
    assert replay.verdicts["notfound"] == 256 - found.allow - found.deny
    assert replay.rules == {key: count for key, count in found.rules.items() if count}


@given(spaces.rule_sets())
def test_coverage_comes_to_all_addresses(rules: spaces.Rules) -> None:
    contents = LoadedRules.of(rules.items())
    for family in Family:
        found = coverage(contents, family)
        assert found.allow + found.deny + found.undecided == family.size
        assert sum(found.rules.values()) == found.allow + found.deny


@given(spaces.rule_sets(), spaces.rule_sets(), spaces.families)
def test_clients_flip_where_the_diff_says(
    place: Path, rules: spaces.Rules, others: spaces.Rules, family: Family
) -> None:
    old, new = LoadedRules.of(rules.items()), LoadedRules.of(others.items())
    clients = spaces.clients(family)
    flips = {flip.client for flip in replayed(place, old, clients, family, new).flips}
    ranges = [found for difference in differences(old, new, [family]) for found in difference.ranges]
    assert flips == {family.text(number) for number in spaces.restricted_to_clients(family, ranges)}


@given(spaces.rule_sets())
def test_a_minimised_set_differs_in_nothing(rules: spaces.Rules) -> None:
    contents = LoadedRules.of(rules.items())
    found = minimise(contents)
    assert found.after <= found.before == len(rules)
    assert differences(contents, found.loaded) == []
    assert minimise(found.loaded).after == found.after
    for family in Family:
        before, after = coverage(contents, family), coverage(found.loaded, family)
        assert (before.allow, before.deny) == (after.allow, after.deny)


@given(any_rule_sets)
def test_minimising_leaves_other_families_alone(rules: spaces.Rules) -> None:
    contents = LoadedRules.of(rules.items())
    found = minimise(contents).loaded
    assert differences(contents, found) == [] == other_differences(contents, found)


@given(spaces.rule_sets(most=4), spaces.families)
def test_explanations_name_the_rules_that_spaces_name(place: Path, rules: spaces.Rules, family: Family) -> None:
    write_cdb(os.fsencode(place / "rules.cdb"), rules.items())
    explainer = Explainer(os.fsencode(place / "rules.cdb"))
    partition = LoadedRules.of(rules.items()).partition(family)
    for start, end, index in partition.intervals():
        for number in (start, end - 1):
            assert explainer.explain(family.text(number)).decision.rule == partition.key(index)
    explainer.close()
