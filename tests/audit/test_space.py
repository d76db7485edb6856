"""The core of the audits: networks, contents and spaces, beside brute force and the standard library."""

from __future__ import annotations

import ipaddress
import os
from itertools import pairwise
from pathlib import Path

import cdbx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import MalformedRecord, Rule, RuleSetError
from s6tls.accessrules.cdb import write_cdb
from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, Network, cidrs, joined, parse_cidr, prefixes
from s6tls.audit.core.partition import IntervalIndex, merge_intervals
from tests.accessrules import trees
from tests.audit import spaces

# Networks


@pytest.mark.parametrize(
    ("family", "name", "network"),
    [
        (Family.IP4, b"0.0.0.0_0", "0.0.0.0/0"),
        (Family.IP4, b"10.1.2.3_32", "10.1.2.3/32"),
        (Family.IP6, b"::_0", "::/0"),
        (Family.IP6, b"2001:db8::_32", "2001:db8::/32"),
        (Family.IP6, b"::ffff:102:304_128", "::ffff:102:304/128"),
        (Family.IP6, b"1:0:0:2::_64", "1:0:0:2::/64"),
    ],
)
def test_names_that_can_match(family: Family, name: bytes, network: str) -> None:
    number, length = family.parse_name(name)
    assert family.cidr(number, length) == network
    assert family.key(number, length) == family.value.encode() + b"/" + name
    assert parse_cidr(network) == Network(family, number, length)


@pytest.mark.parametrize(
    ("family", "name", "problem"),
    [
        (Family.IP4, b"10.0.0.1_8", "write it as 10.0.0.0_8"),
        (Family.IP4, b"10.0.0.0_33", "prefix length from 0 to 32"),
        (Family.IP4, b"10.0.0.0_08", "prefix length"),
        (Family.IP4, b"10.0.0.0_", "prefix length"),
        (Family.IP4, b"10.0.0.0", "prefix length"),
        (Family.IP4, b"010.0.0.0_8", "address"),
        (Family.IP4, b"10.0_8", "address"),
        (Family.IP4, b"localhost_32", "address"),
        (Family.IP4, b"::_0", "address"),
        (Family.IP4, b"\xff_0", "address"),
        (Family.IP6, b"2001:DB8::_32", "write it as 2001:db8::_32"),
        (Family.IP6, b"2001:0db8::_32", "write it as 2001:db8::_32"),
        (Family.IP6, b"::ffff:1.2.3.4_128", "write it as ::ffff:102:304_128"),
        (Family.IP6, b"1::2:0:0:0_64", "write it as 1::_64"),
        (Family.IP6, b"2001:db8::1_64", "write it as 2001:db8::_64"),
        (Family.IP6, b"::_129", "prefix length from 0 to 128"),
        (Family.IP6, b"1.2.3.4_32", "address"),
    ],
)
def test_names_that_never_match(family: Family, name: bytes, problem: str) -> None:
    with pytest.raises(AddressError, match=problem):
        family.parse_name(name)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/-1", "10/8", "::/129", "1/8", ""])
def test_cidrs_that_are_none(text: str) -> None:
    with pytest.raises(AddressError):
        parse_cidr(text)


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_ranges_become_the_fewest_networks(a: int, b: int) -> None:
    start, end = sorted((a, b))
    networks = [ipaddress.IPv4Network((number, 32 - free)) for number, free in prefixes(start, end)]
    if start == end:
        assert networks == []
    else:
        first, last = ipaddress.IPv4Address(start), ipaddress.IPv4Address(end - 1)
        assert networks == list(ipaddress.summarize_address_range(first, last))


def test_the_whole_of_ipv6_is_one_network() -> None:
    assert list(prefixes(0, 2**128)) == [(0, 128)]


def test_ranges_that_touch_are_joined() -> None:
    assert list(joined([(0, 1), (1, 4), (5, 6)])) == [(0, 4), (5, 6)]
    assert list(joined([])) == []
    assert cidrs(Family.IP4, [(0, 1), (1, 4), (5, 6)]) == ["0.0.0.0/30", "0.0.0.5/32"]


# Rules in memory


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


# Partitions


@given(spaces.rule_sets(), spaces.families)
def test_intervals_and_counts_agree_with_brute_force(rules: spaces.Rules, family: Family) -> None:
    partition = LoadedRules.of(rules.items()).partition(family)
    intervals = list(partition.intervals())
    assert intervals[0].start == 0 and intervals[-1].end == family.size
    assert all(one.end == other.start for one, other in pairwise(intervals))
    assert all(one.rule != other.rule for one, other in pairwise(intervals))
    locator = IntervalIndex(partition)
    for number in spaces.clients(family):
        index = locator.rule_at(number)
        assert (partition.key(index), partition.rule(index)) == spaces.decide(rules, family, number)
    counts = [0] * (len(partition) + 1)
    for start, end, index in intervals:
        counts[index] += end - start
    assert partition.decided() == counts
    assert sum(counts) == family.size


@given(spaces.rule_sets(), spaces.families)
def test_a_parent_decides_when_its_child_is_gone(rules: spaces.Rules, family: Family) -> None:
    partition = LoadedRules.of(rules.items()).partition(family)
    for index, parent in enumerate(partition.parents()):
        shorter = {key: rule for key, rule in rules.items() if key not in partition.keys[index:]}
        assert spaces.decide(shorter, family, partition.numbers[index])[0] == partition.key(parent)


def test_rules_that_no_lookup_asks_for_decide_nothing() -> None:
    contents = LoadedRules.of([(b"ip4/10.0.0.1_8", Rule(True)), (b"ip6/::_0", Rule(True)), (b"uid/0", Rule(True))])
    assert len(contents.partition(Family.IP4)) == 0
    assert contents.partition(Family.IP6).keys == [b"ip6/::_0"]


def test_ranges_overlaid() -> None:
    one = [(0, 4, "a"), (4, 8, "b")]
    other = [(0, 1, 1), (1, 4, 2), (4, 5, 3), (5, 8, 4)]
    expected = [(0, 1, "a", 1), (1, 4, "a", 2), (4, 5, "b", 3), (5, 8, "b", 4)]
    assert list(merge_intervals(one, other)) == expected
    swapped = [(start, end, first, second) for start, end, second, first in merge_intervals(other, one)]
    assert swapped == expected
