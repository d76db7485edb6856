"""The formats beside the programs that read them: Debian's tcp_wrappers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.contents import Contents
from s6tls.audit.formats import hostsaccess
from s6tls.audit.formats.entries import BadText, Unsayable
from s6tls.audit.networks import Family, parse_address_number
from tests.audit import spaces

PLAIN = (Rule(True), Rule(False))
TCPDMATCH = "/usr/sbin/tcpdmatch"
NEEDS_TCPDMATCH = pytest.mark.skipif(not os.path.exists(TCPDMATCH), reason="tcpd is not installed")
beside = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Not 255.255.255.255, which is no client's: it matches no mask there.
CLIENTS = ["192.0.2.0", "192.0.2.7", "192.0.2.255", "192.0.3.1", "10.0.0.1", "0.0.0.0", "255.255.255.254"]
CLIENTS += ["2001:db8::7:0", "2001:db8::7:1", "2001:db8::7:ff", "2001:db8:1::", "::1", "ffff::", "::c000:207"]


def we_allow(rules: spaces.Rules, client: str) -> bool:
    _, rule = spaces.decide(rules, *parse_address_number(client))
    return rule is not None and rule.allow


# hosts.allow and hosts.deny


def tcpd_allows(place: Path, client: str, daemon: str = "sshd") -> bool:
    """What Debian's tcpdmatch says about a client of the hosts.allow and hosts.deny in a directory."""
    said = subprocess.run([TCPDMATCH, "-d", daemon, client], cwd=place, capture_output=True, check=True)
    (verdict,) = re.findall(rb"^access: +(granted|denied)$", said.stdout, re.MULTILINE)
    return bool(verdict == b"granted")


def hosts_files(place: Path, allow: bytes, deny: bytes = b"") -> None:
    (place / "hosts.allow").write_bytes(allow)
    (place / "hosts.deny").write_bytes(deny)


PATTERNS = """
    ALL all 192.0.2. 192. 10.0. 192.0.2.7 192.0.2.0/24 192.0.2.0/31 192.0.2.0/255.255.255.254 0.0.0.0/0.0.0.0
    10.0.0.1/32 128.0.0.0/1 [2001:db8::7:0] [2001:DB8::7:0]/127 [2001:db8::]/32 [::]/0 [::192.0.2.7] [::]/96 [::1]/128
    0.0.0.0/0 192.0.2.7/255.255.255.255 192.0.2.7/24 [::ffff:0:0]/96 2001:db8::7:0 [192.0.2.7] 192.0.2 .7 1*2.0.2.7
    KNOWN local @x / a@ALL [::]/129 192.0.2.0/24/1 192.0.2.0/ 256. 010.0.0.1 192.0.2.7. []
"""
DAEMONS = "ALL ALL ALL all sshd SSHD ftpd ssh sshd. .sshd .hd s* KNOWN LOCAL sshd@ALL [sshd] # x.y 22"
_patterns, _daemons = st.sampled_from(PATTERNS.split()), st.sampled_from(DAEMONS.split())
_separators = st.sampled_from([" ", " ", ", ", "\t", ",", ", ,", " EXCEPT ", " except "])
_options = st.sampled_from(["", "", ":allow", ": deny ", ":DENY", "\t:\tAllow\t", ":", ":deny:allow", ":deny=", ":x"])


@st.composite
def _lists(draw: st.DrawFn, words: st.SearchStrategy[str]) -> str:
    found = draw(words)
    for word in draw(st.lists(words, max_size=3)):
        found += draw(_separators) + word
    return (
        draw(st.sampled_from(["", "", " ", ","])) + found + draw(st.sampled_from(["", "", " ", ",", "\f", " EXCEPT"]))
    )


@st.composite
def _hosts_lines(draw: st.DrawFn) -> str:
    odd = ["", " ", "# ALL:ALL", " # ALL: ALL", "# \\", "ALL", "ALL:", "\\", "\x0b", "#\0", "#" * 2047 + "ALL:ALL:deny"]
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(odd))
    return draw(_lists(_daemons)) + draw(st.sampled_from([":", " : "])) + draw(_lists(_patterns)) + draw(_options)


_hosts_texts = st.tuples(
    st.lists(_hosts_lines(), max_size=6), st.sampled_from(["\n", "\n", "\r\n"]), st.sampled_from(["\n", "\n", ""])
).map(lambda made: (made[1].join(made[0]) + made[2]).encode())


def taken(allow: bytes, deny: bytes) -> list[bytes]:
    """The files without the lines that we refuse."""
    try:
        hostsaccess.parse(allow, deny, daemon="sshd")
    except BadText as bad:
        refused = {(fault.file, fault.line) for fault in bad.faults}
        return [
            b"".join(line for number, line in enumerate(data.splitlines(True), 1) if (file, number) not in refused)
            for file, data in enumerate((allow, deny))
        ]
    return [allow, deny]


@NEEDS_TCPDMATCH
@given(_hosts_texts, _hosts_texts, st.lists(st.sampled_from(CLIENTS), min_size=6, max_size=6, unique=True))
@beside
def test_imported_hosts_decide_as_tcpdmatch_does(tmp_path: Path, allow: bytes, deny: bytes, clients: list[str]) -> None:
    allow, deny = taken(allow, deny)
    rules = dict(hostsaccess.parse(allow, deny, daemon="sshd").rules)
    hosts_files(tmp_path, allow, deny)
    for client in clients:
        assert we_allow(rules, client) is tcpd_allows(tmp_path, client)


@NEEDS_TCPDMATCH
@given(spaces.rule_sets(PLAIN, most=6), st.sampled_from(["ALL", "sshd", "a.b-c_1"]), st.data())
@beside
def test_tcpdmatch_decides_as_the_hosts_that_were_exported(
    tmp_path: Path, rules: spaces.Rules, daemon: str, data: st.DataObject
) -> None:
    hosts_files(tmp_path, hostsaccess.write(Contents.of(rules.items()), daemon=daemon).encode())
    for family in Family:
        for number in data.draw(st.lists(st.sampled_from(spaces.clients(family)), min_size=3, max_size=3)):
            client = family.text(number)
            allowed = tcpd_allows(tmp_path, client, daemon)
            assert allowed is we_allow(rules, client)
            assert allowed is we_allow(
                dict(hostsaccess.parse((tmp_path / "hosts.allow").read_bytes(), daemon=daemon).rules), client
            )


@NEEDS_TCPDMATCH
def test_tcpdmatch_asks_for_names_as_rules_do(tmp_path: Path) -> None:
    """With the one name that needs no name server."""
    allow, deny = b"ALL: [2001:db8::]/32 localhost .LOCALHOST\n", b"ALL: ALL\n"
    hosts_files(tmp_path, allow, deny)
    rules = dict(hostsaccess.parse(allow, deny).rules)
    assert rules[b"reversedns/localhost"].allow and not rules[b"reversedns/@"].allow
    said = subprocess.run([TCPDMATCH, "-d", "sshd", "localhost"], cwd=tmp_path, capture_output=True, check=True)
    assert b"granted" in said.stdout and b"denied" not in said.stdout
    for client, allowed in (("127.0.0.1", False), ("2001:db8::1", True)):
        assert tcpd_allows(tmp_path, client) is we_allow(rules, client) is allowed


@pytest.mark.parametrize("key", [b"ip6/::ffff:c000:200_120", b"ip6/::ffff:0:0_96"])
def test_ip4_clients_in_ip6_are_ip4_clients_of_tcp_wrappers(key: bytes) -> None:
    with pytest.raises(Unsayable):
        hostsaccess.write(Contents.of([(key, Rule(True))]))
