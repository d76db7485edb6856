"""The source format of tcprules, beside tcprulescheck."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.formats import tcprules
from s6tls.audit.formats.entries import Unsayable
from tests.support.rules import spaces
from tests.support.rules.formats import PLAIN, refused

_octet = st.sampled_from(["0", "1", "7", "0-3", "2-9", "250-255"])
_address = st.tuples(st.lists(_octet, max_size=4), st.just(None)).map(
    lambda made: ".".join(made[0]) + ("." if 0 < len(made[0]) < 4 else "")
)
_instruction = st.sampled_from(["allow", "deny", 'allow,A="x y"', 'allow,A=//,B=|"|', 'allow,A="1",A="2"'])
_tcp_lines = st.lists(st.tuples(_address.filter(lambda a: a.count("-") < 2), _instruction).map(":".join), max_size=8)
_clients = st.lists(st.sampled_from([0, 1, 2, 7, 9, 255]), min_size=4, max_size=4).map(lambda o: ".".join(map(str, o)))


def tcp_decides(cdb: Path, client: str) -> tuple[bool, dict[str, str]]:
    """What Debian's tcprulescheck says about a client."""
    said = subprocess.run(["tcprulescheck", cdb], env={"TCPREMOTEIP": client}, capture_output=True, check=True)
    lines = said.stdout.decode().splitlines()
    changes = [
        line.removeprefix("set environment variable ").split("=", 1) for line in lines if line.startswith("set ")
    ]
    assert lines[-1] in ("allow connection", "deny connection")
    return lines[-1] == "allow connection", dict(changes)


def tcp_compile(place: Path, source: str) -> Path:
    subprocess.run(["tcprules", place / "cdb", place / "tmp"], input=source.encode(), check=True, capture_output=True)
    return place / "cdb"


def we_decide(rules: spaces.Rules, client: str) -> tuple[bool, dict[str, str]]:
    _, rule = spaces.decide(rules, Family.IP4, int(ipaddress.IPv4Address(client)))
    if rule is None or not rule.allow:
        return False, {}
    return True, {name.decode(): (value or b"").decode() for name, value in rule.env}


@given(_tcp_lines, st.lists(_clients, min_size=6, max_size=6))
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_imported_tcprules_decide_as_tcprulescheck_does(tmp_path: Path, lines: list[str], clients: list[str]) -> None:
    source = "".join(f"{line}\n" for line in lines)
    rules = dict(tcprules.parse(source.encode()).rules)
    cdb = tcp_compile(tmp_path, source)
    for client in clients:
        assert we_decide(rules, client) == tcp_decides(cdb, client)


@given(spaces.rule_sets((*PLAIN, Rule(True, ((b"A", b'"x"'), (b"B", b"")))), most=6), st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tcprulescheck_decides_as_what_was_exported(tmp_path: Path, rules: spaces.Rules, data: st.DataObject) -> None:
    rules = {key: rule for key, rule in rules.items() if key.startswith(b"ip4/")}
    written = tcprules.write(LoadedRules.of(rules.items()))
    again = dict(tcprules.parse(written.encode()).rules)
    for number in spaces.clients(Family.IP4):
        client = Family.IP4.text(number)
        assert we_decide(again, client) == we_decide(rules, client)
    cdb = tcp_compile(tmp_path, written)
    for number in data.draw(st.lists(st.sampled_from(spaces.clients(Family.IP4)), min_size=6, max_size=6)):
        client = Family.IP4.text(number)
        assert tcp_decides(cdb, client) == we_decide(rules, client)


@pytest.mark.parametrize(
    "line",
    [
        "=a.example:allow",
        "=:deny",
        "joe@1.2.3.4:allow",
        "1.2.3:allow",
        "1.2.3.4.:allow",
        "1.2.3.04:deny",
        "1.2.3.256:deny",
        "1-2.3-4.:deny",
        "9-1.:deny",
        "1.2.3.4",
        ":permit",
        ':deny,A="x"',
        ':allow,A="x',
        ":allow A",
        ":allow,A=",
        ":allow,=xx",
    ],
)
def test_tcprules_refuses(line: str) -> None:
    assert [number for number, _ in refused(tcprules.parse, f"# one\n{line}\n".encode())] == [2]


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        (b"ip6/::_0", Rule(True)),
        (b"ip4/0.0.0.0_0", Rule(True, ((b"A", None),))),
        (b"ip4/0.0.0.0_0", Rule(True, ((b"A", b"\n"),))),
    ],
)
def test_tcprules_cannot_say(key: bytes, rule: Rule) -> None:
    with pytest.raises(Unsayable):
        tcprules.write(LoadedRules.of([(key, rule)]))
