"""The formats beside the programs that read them: Debian's tcp_wrappers and HAProxy."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, parse_address_number
from s6tls.audit.formats import haproxy, hostsaccess, nginx
from s6tls.audit.formats.entries import BadText, Unsayable
from tests.support.rules import spaces
from tests.support.servers import PATIENCE

PLAIN = (Rule(True), Rule(False))
TCPDMATCH = "/usr/sbin/tcpdmatch"
beside = settings(
    max_examples=60,
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
    odd = [
        "ALL:\\\n192.0.2.",
        "AL\\\nL: 10.0. \\",
        "",
        " ",
        "# ALL:ALL",
        " # ALL: ALL",
        "# \\",
        "ALL",
        "ALL:",
        "\\",
        "\x0b",
        "#\0",
        "#" * 2047 + "ALL:ALL:deny",
    ]
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(odd))
    return draw(_lists(_daemons)) + draw(st.sampled_from([":", " : "])) + draw(_lists(_patterns)) + draw(_options)


_hosts_texts = st.tuples(
    st.lists(_hosts_lines(), max_size=6), st.sampled_from(["\n", "\n", "\r\n"]), st.sampled_from(["\n", "\n", ""])
).map(lambda made: (made[1].join(made[0]) + made[2]).encode())


def taken(allow: bytes, deny: bytes) -> list[bytes]:
    """The files without the lines that we refuse, with those in which they go on."""
    try:
        hostsaccess.parse(allow, deny, daemon="sshd")
    except BadText as bad:
        refused = {(fault.file, fault.line) for fault in bad.faults}
        return [
            b"".join(line for number, line in continued(data) if (file, number) not in refused)
            for file, data in enumerate((allow, deny))
        ]
    return [allow, deny]


def continued(data: bytes) -> Iterator[tuple[int, bytes]]:
    number = 1
    for line in re.findall(rb"(?:[^\n]*\\\n)*(?:[^\n]*\n|[^\n]+)", data):
        yield number, line
        number += line.count(b"\n")


@given(_hosts_texts, _hosts_texts, st.lists(st.sampled_from(CLIENTS), min_size=6, max_size=6, unique=True))
@beside
def test_imported_hosts_decide_as_tcpdmatch_does(tmp_path: Path, allow: bytes, deny: bytes, clients: list[str]) -> None:
    allow, deny = taken(allow, deny)
    rules = dict(hostsaccess.parse(allow, deny, daemon="sshd").rules)
    hosts_files(tmp_path, allow, deny)
    for client in clients:
        assert we_allow(rules, client) is tcpd_allows(tmp_path, client)


@given(spaces.rule_sets(PLAIN, most=6), st.sampled_from(["ALL", "sshd", "a.b-c_1"]), st.data())
@beside
def test_tcpdmatch_decides_as_the_hosts_that_were_exported(
    tmp_path: Path, rules: spaces.Rules, daemon: str, data: st.DataObject
) -> None:
    hosts_files(tmp_path, hostsaccess.write(LoadedRules.of(rules.items()), daemon=daemon).encode())
    for family in Family:
        for number in data.draw(st.lists(st.sampled_from(spaces.clients(family)), min_size=3, max_size=3)):
            client = family.text(number)
            allowed = tcpd_allows(tmp_path, client, daemon)
            assert allowed is we_allow(rules, client)
            assert allowed is we_allow(
                dict(hostsaccess.parse((tmp_path / "hosts.allow").read_bytes(), daemon=daemon).rules), client
            )


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
@pytest.mark.parametrize("write", [haproxy.write, hostsaccess.write, nginx.write])
def test_ip4_clients_in_ip6_are_ip4_clients_elsewhere(write: Callable[[LoadedRules], str], key: bytes) -> None:
    with pytest.raises(Unsayable):
        write(LoadedRules.of([(key, Rule(True))]))


# Pattern files of HAProxy

HAPROXY = "/usr/sbin/haproxy"
CONFIGURATION = """\
defaults
    mode http
    timeout client {patience}s
    timeout server {patience}s
    timeout connect {patience}s
frontend clients
    bind fd@{fd} accept-proxy
    {answers}
    http-request return status 200 content-type text/plain string no
"""
ANSWER = "http-request return status 200 content-type text/plain string yes if {{ path /{i} }} {{ src -f {file} }}"
MAP_ANSWER = ANSWER.replace("src -f {file}", "src,map_ip({file},0) -m str 1")
# An IPv4 client, and those of IPv6 that stand for it.
HA_CLIENTS = [
    *CLIENTS,
    "192.0.2.8",
    "::ffff:192.0.2.7",
    "2002:c000:207::",
    "2002:c000:207:1::1",
    "::c000:208",
    "2002::1",
]
HA_CLIENTS += ["::1:c000:207", "::fffe:c000:207", "2003::", "255.255.255.255", "::ffff:0:0"]
HA_PATTERNS = """
    192.0.2.7 192.0.2.0/24 0.0.0.0/0 0.0.0.0/1 192.0.2.0/255.255.255.248 ::ffff:192.0.2.7 ::ffff:192.0.2.0/120
    ::ffff:0:0/96 ::fffe:0:0/95 ::/0 ::/96 ::/95 ::/80 ::/1 ::192.0.2.7 2002::/16 2002::/15 2002:c000:207::/48
    2001:db8::/32
    2001:DB8::7:0/127 ::1 192.0.2.0/024 10.0.0.1/32 128.0.0.0/1
    192.0.2.7/24 192.0.2 192/8 localhost 192.0.2.7#x 192.0.2.7/ [::1] 2001:db8::7:1/64 192.0.2.0/255.0.255.0
"""


@contextlib.contextmanager
def haproxy_with(place: Path, lists: Sequence[bytes], template: str = ANSWER) -> Iterator[int]:
    """Run an HAProxy that says whether the client is in list number N on ``/N``; the value is its port."""
    answers = []
    for i, data in enumerate(lists):
        (place / f"list{i}").write_bytes(data)
        answers.append(template.format(i=i, file=place / f"list{i}"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        configuration = CONFIGURATION.format(
            patience=int(PATIENCE), fd=listener.fileno(), answers="\n    ".join(answers)
        )
        (place / "configuration").write_text(configuration)
        process = subprocess.Popen(
            [HAPROXY, "-q", "-db", "-f", place / "configuration"],
            stdin=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
        port = listener.getsockname()[1]
    try:
        yield port
    finally:
        process.kill()
        process.wait(PATIENCE)


def haproxy_has(port: int, client: str, i: int) -> bool:
    """Tell whether this client is in a list."""
    proxy = f"PROXY TCP6 {client} ::1" if ":" in client else f"PROXY TCP4 {client} 127.0.0.1"
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(f"{proxy} 50000 80\r\nGET /{i} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b"")).rpartition(b"\r\n\r\n")[2]
    assert answer in (b"yes", b"no")
    return answer == b"yes"


def list_taken(data: bytes) -> bytes:
    """The list without the lines that we refuse."""
    try:
        haproxy.parse(data)
    except BadText as bad:
        refused = {fault.line for fault in bad.faults}
        return b"".join(line for number, line in enumerate(data.splitlines(True), 1) if number not in refused)
    return data


def a_list(chance: random.Random) -> bytes:
    lines = []
    for _ in range(chance.randint(0, 5)):
        before = chance.choice(["", "", "", " ", "\t", "\v", "# ", " # "])
        after = chance.choice(["", "", "", "", " ", " # x"])
        lines.append(before + chance.choice(HA_PATTERNS.split()) + after)
    if chance.random() < 0.2:
        lines.insert(0, chance.choice(["", " ", "#" * 16_383 + "::/0", "#\\"]))
    end = chance.choice(["\n", "\n", "\r\n"])
    return (end.join(lines) + chance.choice([end, ""])).encode()


def haproxy_clients_are_ours(client: str) -> bool:
    """IPv4-mapped clients are IPv4 clients of HAProxy, and rules do not say what these are."""
    return not client.startswith("::ffff:")


def test_imported_lists_have_the_clients_that_haproxy_finds_in_them(tmp_path: Path) -> None:
    chance = random.Random(4)
    lists = [*(f"{line}\n".encode() for line in HA_PATTERNS.split()), *(a_list(chance) for _ in range(40))]
    lists = [list_taken(data) for data in lists]
    with haproxy_with(tmp_path, lists) as port:
        for i, data in enumerate(lists):
            rules = dict(haproxy.parse(data).rules)
            for client in filter(haproxy_clients_are_ours, HA_CLIENTS):
                assert (data, client, haproxy_has(port, client, i)) == (data, client, we_allow(rules, client))


def test_haproxy_finds_the_values_of_maps_that_were_imported(tmp_path: Path) -> None:
    chance = random.Random(6)
    patterns = HA_PATTERNS.split("192.0.2.7/24")[0].split()
    maps = ["".join(f"{at} {chance.choice('01')}\n" for at in chance.sample(patterns, 6)) for _ in range(25)]
    with haproxy_with(tmp_path, [text.encode() for text in maps], MAP_ANSWER) as port:
        for i, text in enumerate(maps):
            rules = dict(haproxy.parse_map(text.encode()).rules)
            for client in filter(haproxy_clients_are_ours, HA_CLIENTS):
                assert (text, client, haproxy_has(port, client, i)) == (text, client, we_allow(rules, client))


def test_haproxy_finds_the_clients_that_were_exported(tmp_path: Path) -> None:
    chance = random.Random(5)
    keys = [b"ip4/0.0.0.0_0", b"ip4/192.0.2.0_24", b"ip4/192.0.2.7_32", b"ip4/192.0.2.0_29", b"ip6/::_0", b"ip6/::_96"]
    keys += [b"ip6/2002::_16", b"ip6/2002:c000:207::_48", b"ip6/2001:db8::_32", b"ip6/::fffe:0:0_95", b"ip6/::1_128"]
    sets = [{key: Rule(chance.random() < 0.6) for key in chance.sample(keys, chance.randint(0, 7))} for _ in range(25)]
    cases = [(rules, allow) for rules in sets for allow in (True, False)]
    lists = [haproxy.write(LoadedRules.of(rules.items()), allow=allow).encode() for rules, allow in cases]
    with haproxy_with(tmp_path, lists) as port:
        for i, (rules, allow) in enumerate(cases):
            again = dict(haproxy.parse(lists[i]).rules)
            for client in filter(haproxy_clients_are_ours, HA_CLIENTS):
                expected = we_allow(rules, client) is allow
                assert (lists[i], client, haproxy_has(port, client, i)) == (lists[i], client, expected)
                assert we_allow(again, client) is expected
