"""The table of intervals says of every address what lookups do, in each form."""

from __future__ import annotations

import csv
import io
import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from pyarrow import parquet

from s6tls.accessrules import Rule
from s6tls.accessrules.keys import parse_address
from s6tls.audit.core import wording
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.intervals import FORMATS, Lookup, interval_table, written
from tests.support.rules import spaces

RULES = LoadedRules.of(
    [
        (b"ip4/10.0.0.0_8", Rule(False)),
        (b"ip4/10.0.0.0_9", Rule(True)),
        (b"ip4/10.0.0.1_8", Rule(True)),
        (b"ip6/2001:db8::_32", Rule(True)),
        (b"reversedns/@", Rule(False)),
    ]
)
ROWS = [
    ("ip4", "0.0.0.0", "9.255.255.255", "notfound", ""),
    ("ip4", "10.0.0.0", "10.127.255.255", "allow", "ip4/10.0.0.0_9"),
    ("ip4", "10.128.0.0", "10.255.255.255", "deny", "ip4/10.0.0.0_8"),
    ("ip4", "11.0.0.0", "255.255.255.255", "notfound", ""),
    ("ip6", "::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "notfound", ""),
    ("ip6", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "allow", "ip6/2001:db8::_32"),
    ("ip6", "2001:db9::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "notfound", ""),
]


def read(format: str) -> list[tuple[str, ...]]:
    """The rows of a table that has been written, in the words of CSV."""
    contents = written(RULES, format)
    if format == "csv":
        return [tuple(row.values()) for row in csv.DictReader(io.StringIO(contents.decode()))]
    buffer = pa.BufferReader(contents)
    table = parquet.read_table(buffer) if format == "parquet" else pa.ipc.open_file(buffer).read_all()
    text = {(family, parse_address(address)): address for family, *addresses, _, _ in ROWS for address in addresses}
    return [
        (family, text[family, first], text[family, last], verdict, rule or "")
        for family, first, last, verdict, rule in zip(*table.to_pydict().values(), strict=True)
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_the_table_has_all_addresses_in_order(format: str) -> None:
    assert read(format) == ROWS


@settings(max_examples=30)
@given(spaces.rule_sets())
def test_every_client_is_decided_as_by_the_model(rules: spaces.Rules) -> None:
    lookup = pickle.loads(pickle.dumps(Lookup(interval_table(LoadedRules.of(rules.items())))))
    for family in Family:
        numbers = list(spaces.clients(family))
        found = lookup.decide(pa.array([family.text(number) for number in numbers]))
        decided = [spaces.decide(rules, family, number) for number in numbers]
        assert [column.to_pylist() for column in found] == [
            [wording.verdict(rule) for _, rule in decided],
            [None if key is None else key.decode() for key, _ in decided],
        ]


def test_texts_are_read_as_in_logs() -> None:
    texts = ["10.0.0.1:443", None, "-", "10.200.0.1, 192.0.2.1", "::ffff:10.0.0.1", "[2001:db8::1]:1", "10.0.0.1:443"]
    allow, none = ("allow", "ip4/10.0.0.0_9"), (None, None)
    found = zip(*(column.to_pylist() for column in Lookup(interval_table(RULES)).decide(pa.array(texts))), strict=True)
    assert list(found) == [
        allow,
        none,
        none,
        ("deny", "ip4/10.0.0.0_8"),
        allow,
        ("allow", "ip6/2001:db8::_32"),
        allow,
    ]
