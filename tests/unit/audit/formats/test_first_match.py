"""Formats in which the first match counts: nginx and hosts.allow, beside what their words mean."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.formats import haproxy, hostsaccess, nginx
from s6tls.audit.formats.entries import BadText
from tests.support.rules import spaces
from tests.support.rules.formats import refused, verdict

_lines = st.lists(
    st.tuples(st.booleans(), st.sampled_from(Family), st.integers(0, 255), st.integers(0, 8) | st.just(None)),
    max_size=8,
)


def _networks(family: Family, number: int, free: int | None) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    if free is None:
        return [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    address = ipaddress.ip_address(family.text(spaces.BASES[family] + number))
    return [ipaddress.ip_network(f"{address}/{family.bits - free}", strict=False)]


@given(_lines)
@settings(max_examples=60)
def test_the_first_match_counts(lines: list[tuple[bool, Family, int, int | None]]) -> None:
    networks = [(allow, _networks(family, number, free), free) for allow, family, number, free in lines]
    words = ["all" if free is None else str(found[0]) for _, found, free in networks]
    verdicts = ["allow" if allow else "deny" for allow, _, _ in networks]
    as_nginx = "".join(f"{v} {w};\n" for v, w in zip(verdicts, words, strict=True))
    patterns = [w.upper() if w == "all" else f"[{w.replace('/', ']/')}" if ":" in w else w for w in words]
    as_hosts = "".join(f"ALL: {p}: {v}\n" for v, p in zip(verdicts, patterns, strict=True))
    for parsed in (nginx.parse(as_nginx.encode()), hostsaccess.parse(as_hosts.encode())):
        rules = dict(parsed.rules)
        for family in Family:
            for number in spaces.clients(family):
                address = ipaddress.ip_address(family.text(number))
                expected = next((allow for allow, found, _ in networks if any(address in net for net in found)), True)
                assert verdict(rules, family, number) is expected


@pytest.mark.parametrize(
    "line",
    [
        "allow 10.0.0.1/8;",
        "allow unix:;",
        "allow all",
        "satisfy any;",
        "deny 10/8;",
        "allow a b;",
        "deny 10.0.0.0/255.0.0.0;",
        "deny ::ffff:10.0.0.1;",
        "deny 10.0.0.1; allow",
        "deny 10.0.0.1;;",
        "DENY all;",
        "deny 10.0.0.1#x;",
        "deny \v10.0.0.1;",
        "\v",
    ],
)
def test_nginx_refuses(line: str) -> None:
    assert [number for number, _ in refused(nginx.parse, f"deny all;\n{line}\n".encode())] == [2]


def test_nginx_with_more_than_one_directive_a_line() -> None:
    parsed = nginx.parse(b"deny 10.0.0.1;allow 10.0.0.0/8 ; # ours\n\t# deny 10.0.0.2;\ndeny all;#rest\n")
    assert [(entry.key, entry.rule.allow, entry.provenance.note) for entry in parsed.entries] == [
        (b"ip4/10.0.0.1_32", False, "ours"),
        (b"ip4/10.0.0.0_8", True, "ours"),
        (b"ip4/0.0.0.0_0", False, "rest"),
        (b"ip6/::_0", False, "rest"),
    ]


def test_hosts() -> None:
    allow = b"sshd, ftpd: [2001:db8::]/32 192.0.2. EXCEPT 192.0.2.128/255.255.255.128\nALL EXCEPT sshd: 10.0.0.1\n"
    assert hostsaccess.parse(allow, b"ALL: ALL\n", daemon="sshd").rules == [
        (b"ip6/2001:db8::_32", Rule(True)),
        (b"ip4/192.0.2.0_25", Rule(True)),
        (b"ip4/0.0.0.0_0", Rule(False)),
        (b"ip6/::_0", Rule(False)),
    ]
    assert (b"ip4/10.0.0.1_32", Rule(True)) in hostsaccess.parse(allow, daemon="ftpd").rules


def test_lines_of_hosts_that_go_on() -> None:
    parsed = hostsaccess.parse(b"# one \\\ntwo\nAL\\\nL: 10. \\\n192.0.2.\nALL: 11.\n", b"ALL: ALL\n")
    assert [(entry.key, entry.line) for entry in parsed.entries][:3] == [
        (b"ip4/10.0.0.0_8", 3),
        (b"ip4/192.0.2.0_24", 3),
        (b"ip4/11.0.0.0_8", 6),
    ]
    assert parsed.entries[0].provenance.comments == ("one two",)
    assert [line for line, _ in refused(hostsaccess.parse, b"ALL: ALL\nALL: 10. \\\n")] == [2]


def test_local_clients_of_hosts() -> None:
    local = b"127.0.0.1 localhost\n::1 localhost ip6-localhost\n192.0.2.1 a.example a\n# 10.0.0.1 b\n192.0.2.2 c # d\n"
    allowed = [key for key, rule in hostsaccess.parse(b"ALL: local\n", b"ALL: ALL\n", local=local).rules if rule.allow]
    assert allowed == [b"ip4/127.0.0.1_32", b"ip6/::1_128", b"ip4/192.0.2.2_32"]
    assert hostsaccess.parse(b"ALL: ALL EXCEPT LOCAL\n", b"ALL: ALL\n", local=b"10.0.0.1 a.b\n").rules[0][1].allow
    assert [rule.allow for _, rule in hostsaccess.parse(b"ALL: LOCAL\n", b"ALL: ALL\n", local=b"").rules] == [False] * 2


def test_an_ip6_address_of_hosts_without_brackets() -> None:
    for line, wanted in (
        ("ALL: 2001:db8::/32 10.", "[2001:db8::]/32"),
        ("ALL:::1", "[::1]"),
        ("ALL: x, fe80::1", "[fe80::1]"),
    ):
        ((number, message),) = refused(hostsaccess.parse, f"{line}\n".encode())
        assert number == 1 and message == f"an IPv6 address stands in brackets: write {wanted}"


def test_keywords_of_hosts_in_lower_case() -> None:
    upper = hostsaccess.parse(b"ALL EXCEPT ftpd: 10.\n", b"ALL: ALL\n", daemon="sshd")
    assert hostsaccess.parse(b"all except ftpd: 10.\n", b"All: all\n", daemon="sshd").rules == upper.rules
    assert [line for line, _ in refused(hostsaccess.parse, b"ALL: local .local\n")] == [1]


def test_hosts_without_a_newline_at_the_end() -> None:
    assert [line for line, _ in refused(hostsaccess.parse, b"ALL: 10.\nALL: 11.")] == [2]
    with pytest.raises(BadText) as bad:
        hostsaccess.parse(b"ALL: 10.\nALL: 11.0.0.1 \\\n10.0.0.1")
    assert [fault.line for fault in bad.value.faults] == [2]
    assert bad.value.rest.rules == hostsaccess.parse(b"ALL: 10.\n").rules


def test_an_address_in_hosts_has_no_mask() -> None:
    assert hostsaccess.write(LoadedRules.of([(b"ip4/10.0.0.1_32", Rule(True))])).startswith("ALL : 10.0.0.1 : allow\n")


def test_lists_of_haproxy_in_both_families() -> None:
    assert haproxy.parse(b"10.0.0.0/255.0.0.0\n::ffff:11.0.0.1\n").rules == [
        (b"ip4/10.0.0.0_8", Rule(True)),
        (b"ip6/2002:a00::_24", Rule(True)),
        (b"ip6/::a00:0_104", Rule(True)),
        (b"ip4/11.0.0.1_32", Rule(True)),
    ]
    assert [line for line, _ in refused(haproxy.parse, b"#" * 16_001 + b"\n 10.0.0.1\n10.0.0.2 \n # x\n")] == [1, 3, 4]
    rules = LoadedRules.of([(b"ip4/10.0.0.0_8", Rule(True)), (b"ip6/::_0", Rule(True))])
    written = haproxy.write(rules).splitlines()
    assert "::ffff:10.0.0.0/104" in written and "::/0" not in written and "8000::/1" in written


def test_hosts_with_names() -> None:
    allow = b"ALL: 192.0.2. example.org .example.org\n"
    assert hostsaccess.parse(allow, b"ALL: ALL\n").rules == [
        (b"ip4/192.0.2.0_24", Rule(True)),
        (b"reversedns/example.org", Rule(True)),
        (b"reversedns/@", Rule(False)),
    ]
    for first, second in (
        (allow, b""),
        (allow, b"ALL: 192.0.2.0/24\n"),
        (b"ALL: .example.org\n", b"ALL: ALL\n"),
        (b"ALL: example.org\n", b"ALL: ALL\n"),
        (b"ALL: 10. EXCEPT .example.org\n", b"ALL: ALL\n"),
        (b"ALL: .a.example a.example: deny\n", b"ALL: ALL\n"),
        (b"ALL: ALL: deny\nALL: a.example .a.example\n", b""),
    ):
        with pytest.raises(BadText):
            hostsaccess.parse(first, second)


@pytest.mark.parametrize(
    "line",
    [
        "sshd: ALL",
        "ALL: LOCAL",
        "ALL: KNOWN",
        "ALL: PARANOID",
        "ALL: @group",
        "ALL: a@10.0.0.1",
        "ALL: /etc/x",
        "ALL: *.example.org",
        "ALL: -x.example, .-x.example",
        "ALL: a.example.1",
        "ALL: 10.0.0.1: spawn x",
        "ALL: 10.0.0.0/8 \\",
        "ALL",
        "ALL: EXCEPT 10.",
        "ALL: 10.0.0.1/8",
        "ALL: [::1",
        "ALL" + ":" * 500_000,
        "ALL:",
        "ALL: 10.1",
        "ALL: 0.0.0.0/0",
        "ALL: 10.0.0.1/255.255.255.255",
        "ALL: [::ffff:10.0.0.0]/104",
        "ALL: 10. : allow : deny",
        "ALL: 10.:",
        "ALL: ALL\f",
        "ALL: \u00e4",
        "ALL, sshd.: 10.",
        "ALL KNOWN: 10.",
        "# a comment that goes on \\",
        "#" * 2046,
        "# \0",
    ],
)
def test_hosts_refuses(line: str) -> None:
    assert [number for number, _ in refused(hostsaccess.parse, f"\n{line}\n".encode())] == [2]
