"""Replays, beside brute force: every client of a small space judged by the longest-prefix model."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.accessrules.keys import address_text
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, key_order
from s6tls.audit.core.partition import NO_RULE
from s6tls.audit.logs.log import Log
from s6tls.audit.logs.replay import CLIENTS, Replay
from s6tls.audit.logs.stream import LogError
from tests.support.rules import spaces

EVERYBODY = [(family, number) for family in Family for number in spaces.clients(family)]

Json = dict[str, Any]

logged = st.lists(st.sampled_from(EVERYBODY), max_size=60)


def write(path: Path, lines: list[tuple[Family, int]]) -> bytes:
    (path / "log").write_text("".join(f"{family.text(number)}\n" for family, number in lines))
    return os.fsencode(path / "log")


def replay(
    rules: spaces.Rules, log: bytes, against: spaces.Rules | None = None, most: int = CLIENTS
) -> tuple[Replay, Json]:
    other = None if against is None else LoadedRules.of(against.items())
    found = Replay(LoadedRules.of(rules.items()), other, most=most)
    found.read(Log(log))
    found.finish()
    return found, found.json()


def by_brute_force(rules: spaces.Rules, against: spaces.Rules, lines: list[tuple[Family, int]]) -> Json:
    """The answer, but for the order of what it lists."""
    verdicts: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    undecided: Counter[str] = Counter()
    flips: Counter[str] = Counter()
    for family, number in lines:
        key, rule = spaces.decide(rules, family, number)
        verdicts[wording.verdict(rule)] += 1
        if key is None:
            undecided[family.text(number)] += 1
        else:
            hits[key.decode()] += 1
        if spaces.decide(against, family, number)[1] != rule:
            flips[family.text(number)] += 1
    return {
        "lines": len(lines),
        "unread": 0,
        "allow": verdicts["allow"],
        "deny": verdicts["deny"],
        "undecided": verdicts["notfound"],
        "rules": hits,
        "unused": [key.decode() for key in sorted(rules, key=key_order) if key.decode() not in hits],
        "undecided_clients": undecided,
        "flips": flips,
        "clients": len(set(lines)),
        "beyond": 0,
        "flipped": flips.total(),
    }


@given(spaces.rule_sets(), spaces.rule_sets(), logged)
def test_replays_agree_with_brute_force(
    tmp_path_factory: pytest.TempPathFactory,
    rules: spaces.Rules,
    against: spaces.Rules,
    lines: list[tuple[Family, int]],
) -> None:
    _, found = replay(rules, write(tmp_path_factory.getbasetemp(), lines), against)
    found["flips"] = {flip["address"]: flip["hits"] for flip in found["flips"]}
    assert found == by_brute_force(rules, against, lines)


@given(spaces.rule_sets(), spaces.rule_sets(), logged)
def test_flips_tell_both_decisions(
    tmp_path_factory: pytest.TempPathFactory,
    rules: spaces.Rules,
    against: spaces.Rules,
    lines: list[tuple[Family, int]],
) -> None:
    found, _ = replay(rules, write(tmp_path_factory.getbasetemp(), lines), against)
    for flip in found.flips:
        family, number = next(client for client in lines if client[0].text(client[1]) == flip.client)
        assert flip.before == spaces.decide(rules, family, number)
        assert flip.after == spaces.decide(against, family, number)


@given(spaces.rule_sets(), spaces.rule_sets(), logged, st.integers(0, 10))
def test_clients_beyond_those_remembered_count_all_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    rules: spaces.Rules,
    against: spaces.Rules,
    lines: list[tuple[Family, int]],
    most: int,
) -> None:
    path = write(tmp_path_factory.getbasetemp(), lines)
    _, whole = replay(rules, path, against)
    _, found = replay(rules, path, against, most)
    for exact in ("lines", "unread", "allow", "deny", "undecided", "unused", "flipped", "rules"):
        assert found[exact] == whole[exact]
    assert found["clients"] == min(most, whole["clients"])
    remembered = list(dict.fromkeys(lines))[:most]
    assert found["beyond"] == sum(client not in remembered for client in lines)
    texts = {family.text(number) for family, number in remembered}
    assert found["flips"] == [flip for flip in whole["flips"] if flip["address"] in texts]
    assert found["undecided_clients"] == {a: n for a, n in whole["undecided_clients"].items() if a in texts}


@given(spaces.rule_sets())
def test_replay_of_every_address_is_coverage(tmp_path_factory: pytest.TempPathFactory, rules: spaces.Rules) -> None:
    found, _ = replay(rules, write(tmp_path_factory.getbasetemp(), EVERYBODY))
    contents = LoadedRules.of(rules.items())
    covered: Counter[bytes] = Counter()
    undecided = 0
    for family in Family:
        partition = contents.partition(family)
        for start, end, index in partition.intervals():
            number = len(spaces.restricted_to_clients(family, [(start, end)]))
            if index == NO_RULE:
                undecided += number
            elif number:
                covered[partition.keys[index]] += number
    assert found.rules == covered
    assert found.verdicts["notfound"] == undecided == len(found.undecided)


RULES = {
    b"ip4/192.0.2.0_24": Rule(True),
    b"ip4/198.51.100.7_24": Rule(True),
    b"ip6/::_0": Rule(False),
    b"reversedns/example.org": Rule(True),
}


def test_several_logs_with_lines_that_cannot_be_read(tmp_path: Path) -> None:
    found = Replay(LoadedRules.of(RULES.items()))
    for number, lines in enumerate(["192.0.2.1\n-\n203.0.113.1\n", "192.0.2.1\n::1\n"]):
        (tmp_path / str(number)).write_text(lines)
        found.read(Log(os.fsencode(tmp_path / str(number))))
    found.finish()
    assert found.json() == {
        "lines": 5,
        "unread": 1,
        "clients": 3,
        "beyond": 0,
        "allow": 2,
        "deny": 1,
        "undecided": 1,
        "rules": {"ip4/192.0.2.0_24": 2, "ip6/::_0": 1},
        "unused": ["ip4/198.51.100.7_24"],
        "undecided_clients": {"203.0.113.1": 1},
    }


def test_an_ipv4_address_mapped_into_ipv6_is_the_ipv4_client(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("::ffff:192.0.2.1\n")
    found, _ = replay(RULES, os.fsencode(tmp_path / "log"))
    assert found.rules == {b"ip4/192.0.2.0_24": 1}


def test_who_has_most_hits_comes_first(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("203.0.113.1\n" * 2 + "203.0.113.2\n" * 3 + "203.0.113.0\n" * 2)
    found, _ = replay(RULES, os.fsencode(tmp_path / "log"), {b"ip4/0.0.0.0_0": Rule(True)})
    assert [address_text(packed) for packed in found.undecided] == [b"203.0.113.2", b"203.0.113.0", b"203.0.113.1"]
    assert [flip.hits for flip in found.flips] == [3, 2, 2]


def test_a_broken_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(LogError, match="gzip data cut short at byte 4"):
        replay(RULES, os.fsencode(tmp_path / "log"))
