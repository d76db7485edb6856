"""Lists as they are published: ranges, columns of tables, JSON."""

from __future__ import annotations

import json

import pytest

from s6tls.audit.formats.entries import Parsed
from s6tls.audit.formats.lists import jsonlists, ranges, tables
from tests.support.rules.formats import refused


def networks(parsed: Parsed) -> list[str]:
    return [entry.key.decode().partition("/")[2].replace("_", "/") for entry in parsed.entries]


def test_ranges() -> None:
    parsed = ranges.parse(
        b"# mine\n192.0.2.1-192.0.2.4 # four\n198.51.100.0\t198.51.100.255\t24\t77\n2001:db8:: - 2001:db8::1\n"
        b"203.0.113.0/24\n203.0.113.7\n10.0.0.0, 10.0.0.1, x\n"
    )
    assert networks(parsed) == [
        "192.0.2.1/32",
        "192.0.2.2/31",
        "192.0.2.4/32",
        "198.51.100.0/24",
        "2001:db8::/127",
        "203.0.113.0/24",
        "10.0.0.0/31",
    ]
    notes = [(entry.provenance.comments, entry.provenance.note) for entry in parsed.entries]
    assert notes[0] == (("mine",), "four") and notes[3] == ((), "24\t77") and notes[6][1] == "x"
    assert [remark.line for remark in parsed.remarks] == [6]


@pytest.mark.parametrize(
    "line",
    ["192.0.2.9-192.0.2.1", "192.0.2.1-::1", "192.0.2.1 24", "a-b", "Name:192.0.2.1-192.0.2.2", "192.0.2.1-"],
)
def test_ranges_refuse(line: str) -> None:
    assert [number for number, _ in refused(ranges.parse, f"\n{line}\n".encode())] == [2]


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        ("192.0.2.7\t9\n", ["1"]),
        ("# a\n9   192.0.2.7\n", ["2"]),
        ("network,id\n192.0.2.7/32,5\n", ["network"]),
        ('\ufeff"Id","Network"\n5,"192.0.2.7/32"\n', ["network"]),
        ("id;network\r\n5; 192.0.2.7\r\n", ["2"]),
        ("Start\tEnd\tBits\n192.0.2.7\t192.0.2.7\t32\n", ["start", "end"]),
        ("192.0.2.7,192.0.2.7\n", ["1", "2"]),
    ],
)
def test_columns(data: str, columns: list[str]) -> None:
    assert networks(tables.parse(data.encode(), columns=columns)) == ["192.0.2.7/32"]


@pytest.mark.parametrize(
    ("data", "columns", "lines"),
    [
        ("192.0.2.7,1\nx,2\n192.0.2.8\n", ["2"], [1, 2, 3]),
        ("192.0.2.7,1\n192.0.2.1/24,2\n", ["1"], [2]),
        ("a,b\n192.0.2.7,1\n", ["c"], [1]),
        ("a,a\n192.0.2.7,1\n", ["a"], [1]),
        ('192.0.2.7,"x\ny"\n', ["1"], [1, 2]),
    ],
)
def test_tables_refuse(data: str, columns: list[str], lines: list[int]) -> None:
    assert [line for line, _ in refused(lambda text: tables.parse(text, columns=columns), data.encode())] == lines


PUBLISHED = {
    "Spamhaus": '{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"x"}\n{"type":"metadata","records":1,"copyright":"c"}\n',
    "AWS": {
        "prefixes": [{"ip_prefix": "192.0.2.0/24", "region": "a", "service": "S3"}],
        "ipv6_prefixes": [{"ipv6_prefix": "2001:db8::/32", "region": "a"}],
    },
    "Google": {"syncToken": "1", "prefixes": [{"ipv4Prefix": "192.0.2.0/24"}, {"ipv6Prefix": "2001:db8::/32"}]},
    "Azure": {"values": [{"name": "A", "properties": {"addressPrefixes": ["192.0.2.0/24", "2001:db8::/32"]}}]},
    "GitHub": {
        "verifiable_password_authentication": False,
        "ssh_keys": ["ssh-rsa A"],
        "hooks": ["192.0.2.0/24"],
        "web": ["192.0.2.0/24", "2001:db8::/32"],
        "domains": {"website": ["*.example.org"]},
    },
    "Fastly": {"addresses": ["192.0.2.0/24"], "ipv6_addresses": ["2001:db8::/32"]},
    "Cloudflare": {"result": {"ipv4_cidrs": ["192.0.2.0/24"], "ipv6_cidrs": ["2001:db8::/32"], "etag": "1"}},
    "others": {"ipv4": ["192.0.2.0/24"], "ipv6": ["2001:db8::/32"]},
    "an array": ["192.0.2.0/24", "2001:db8::/32"],
}


@pytest.mark.parametrize("publisher", PUBLISHED)
def test_published_json(publisher: str) -> None:
    said = PUBLISHED[publisher]
    data = said if isinstance(said, str) else json.dumps(said, indent=1)
    wanted = ["192.0.2.0/24"] if isinstance(said, str) else ["192.0.2.0/24", "2001:db8::/32"]
    assert networks(jsonlists.parse(data.encode())) == wanted


@pytest.mark.parametrize(
    ("data", "fields", "line"),
    [
        ('{"server": "192.0.2.1", "blocked": ["192.0.2.0/24"]}', [], 1),
        ('{"a":\n {"b": ["192.0.2.0/24",\n"192.0.2.1/24"]}}', [], 3),
        ('{"cidr":"192.0.2.0/24"}\n{"type":"metadata","records":2}\n', [], 2),
        ('{"cidr":"192.0.2.0/24"}\n{"cidr":}\n', [], 2),
        ('{"cidr":"192.0.2.0/24"}\n{"cidr":"198.51.1', [], 2),
        ('["192.0.2.0/24"', [], 1),
        ('{"a": "x"}', [], 1),
        ('{"a": "192.0.2.0/24"}', ["b"], 1),
        ("", [], 1),
        ("[" * 100_000, [], 1),
        ('["\\ud800", "192.0.2.1"]', [], 1),
        ("9" * 5000, [], 1),
    ],
)
def test_json_refuses(data: str, fields: list[str], line: int) -> None:
    assert line in [at for at, _ in refused(lambda text: jsonlists.parse(text, fields=fields), data.encode())]


def test_named_fields() -> None:
    data = b'{"a": {"b": "192.0.2.1"}, "c": [["192.0.2.2"], {"b": "192.0.2.3"}], "d": "192.0.2.4"}'
    assert networks(jsonlists.parse(data, fields=["a.b", "c"])) == ["192.0.2.1/32", "192.0.2.2/32"]
    assert networks(jsonlists.parse(b"[]")) == []
