"""The formats beside other readings of them: Debian's tcprules, and models of what counts in nginx and hosts.allow."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.formats import cidrlist, expiry, haproxy, hostsaccess, nginx, tcprules, text
from s6tls.audit.formats.entries import BadText, Entry, Parsed, Provenance, Unsayable
from tests.accessrules import trees
from tests.audit import spaces

PLAIN = (Rule(True), Rule(False))
NEEDS_TCPRULES = pytest.mark.skipif(not shutil.which("tcprules"), reason="ucspi-tcp is not installed")


def refused(parse: object, data: bytes) -> list[tuple[int, str]]:
    assert callable(parse)
    with pytest.raises(BadText) as raised:
        parse(data)
    return [(fault.line, fault.message) for fault in raised.value.faults]


def verdict(rules: spaces.Rules, family: Family, number: int) -> bool:
    _, rule = spaces.decide(rules, family, number)
    return rule is not None and rule.allow


def agree(parsed: Parsed, rules: spaces.Rules) -> None:
    again = dict(parsed.rules)
    for family in Family:
        for number in spaces.clients(family):
            assert verdict(again, family, number) == verdict(rules, family, number)


# Our own text


@given(trees.rule_sets)
def test_text_says_any_rule_set(rules: trees.Rules) -> None:
    written = text.write(Entry(key, rule) for key, rule in rules.items())
    assert text.parse(written.encode()).rules == list(rules.items())


@given(st.dictionaries(st.binary(max_size=12), trees.rules, max_size=4))
def test_text_says_any_key_that_a_cdb_may_have(rules: trees.Rules) -> None:
    written = text.write(Entry(key, rule) for key, rule in rules.items())
    assert text.parse(written.encode()).rules == list(rules.items())


_WORDS = [
    "allow",
    "deny",
    " ip4 ",
    "10.0.0.0/8",
    " A=b",
    ' -"x y"',
    ' exec="a\\n"',
    "  # ",
    "owner=ops",
    " expires=2027-01-31",
]
_WORDS += ["ticket=", '"a b"', " note", "\n", "# c\n", " uid 7", " key ", '"\\xff"', "#", "=", "-", "\u00e4", "\t"]
snippets = st.lists(st.sampled_from(_WORDS), max_size=14).map("".join)


@given(snippets)
@settings(max_examples=500)
def test_what_is_written_stays_as_it_is(given_: str) -> None:
    try:
        parsed = text.parse(given_.encode())
    except BadText:
        return
    written = text.write(parsed.entries, parsed.trailing)
    again = text.parse(written.encode())
    assert [(e.key, e.rule, e.provenance) for e in again.entries] == [
        (e.key, e.rule, e.provenance) for e in parsed.entries
    ]
    assert text.write(again.entries, again.trailing) == written


def test_text_keeps_provenance() -> None:
    line = (
        'allow ip4 10.0.0.0/8 ROLE=staff -DEBUG exec="echo\\n"  # owner="A B" ticket=N-1 expires=2027-01-31 until then'
    )
    parsed = text.parse(f"# all offices\n\n{line}\n# the end\n".encode())
    about = Provenance("A B", "N-1", date(2027, 1, 31), "until then", ("all offices",))
    assert parsed.entries == [
        Entry(b"ip4/10.0.0.0_8", Rule(True, ((b"ROLE", b"staff"), (b"DEBUG", None)), b"echo\n"), about)
    ]
    assert text.write(parsed.entries, parsed.trailing) == f"# all offices\n{line}\n# the end\n"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("permit ip4 10.0.0.0/8", "it does not start with"),
        ("allow ip4 10.0.0.1/8", "write it as 10.0.0.0/8"),
        ("allow ip4 10.0.0.1", "write it as 10.0.0.1/32"),
        ("allow ip6 2001:DB8::/32", "write it as 2001:db8::/32"),
        ("allow ip6 10.0.0.0/8", "not of family ip6"),
        ("deny ip4 10.0.0.0/8 A=b", "a deny has no environment"),
        ("allow uid 7 A=b -A", "stands twice"),
        ("allow uid 7 A=b#c", "not NAME=value"),
        ('allow uid 7 A="b', "not NAME=value"),
        ('allow uid 7 "A=B"=c', "one with ="),
        ('allow uid 7 A="\\x00"', "NUL"),
        ("allow uid 7 # expires=soon", "not a date"),
        ("allow uid 7 # expires=20270131", "not a date"),
        ("allow uid 7 # owner=a owner=b", "two of owner"),
        ("allow uid 7 # \x1b[2J", "control characters"),
        ("allow uid 7 exec=a exec=b", "two execs"),
        (f"allow uid 7 exec={'x' * 4097}", "exec takes 4097 bytes"),
        (f"allow uid 7 A={'x' * 4094}", "environment takes 4097 bytes"),
        ("deny uid 6", "has a rule already, in line 1"),
        ("deny uid 01", "uid 01 can never match: lookups ask for it in other words: write it as 1"),
        ("deny gid 4294967295", "can never match: it is neither a number from 0 to 4294967294 nor self"),
        ("deny reversedns Example.org", "can never match: lookups ask for it in other words: write it as example.org"),
        ("deny reversedns 192.0.2.1", "can never match: no host has such a name"),
    ],
)
def test_text_refuses(line: str, why: str) -> None:
    ((number, message),) = refused(text.parse, f"deny uid 6\n{line}\n".encode())
    assert number == 2 and why in message


def test_all_faults_are_told() -> None:
    assert [line for line, _ in refused(text.parse, b"x\ndeny uid 1\n\xff\ny\n")] == [1, 3, 4]


def test_expired_rules_and_what_decides_in_their_place() -> None:
    parsed = text.parse(
        b"deny ip4 10.1.0.0/16 # expires=2026-01-31\n"
        b"allow ip4 10.0.0.0/8 # expires=2026-02-01\n"
        b"allow ip6 2001:db8::/32 # expires=2026-01-31\n"
        b"allow reversedns www.example.org # expires=2026-01-31\n"
        b"deny reversedns example.org\n"
    )
    kept, expired = expiry.split(parsed.entries, date(2026, 2, 1))
    assert [entry.line for entry in kept] == [2, 5]
    assert [(entry.line, by and by.line) for entry, by in expired] == [(1, 2), (3, None), (4, 5)]


# Every format


@given(st.binary(max_size=60) | snippets.map(str.encode))
@settings(max_examples=300)
def test_any_text_is_read_or_refused(data: bytes) -> None:
    for parse in (text.parse, tcprules.parse, hostsaccess.parse, cidrlist.parse, haproxy.parse, nginx.parse):
        try:
            parse(data)
        except BadText as bad:
            assert bad.faults and all(fault.line > 0 and fault.message for fault in bad.faults)


@given(spaces.rule_sets(PLAIN, most=6))
@settings(max_examples=40)
def test_verdicts_come_back_from_every_format(rules: spaces.Rules) -> None:
    contents = LoadedRules.of(rules.items())
    agree(nginx.parse(nginx.write(contents).encode()), rules)
    agree(hostsaccess.parse(hostsaccess.write(contents, daemon="ftpd").encode(), daemon="ftpd"), rules)
    for lists in (cidrlist, haproxy):
        agree(lists.parse(lists.write(contents).encode()), rules)
        others = dict(lists.parse(lists.write(contents, allow=False).encode(), allow=False).rules)
        for family in Family:
            for number in spaces.clients(family):
                assert (spaces.decide(others, family, number)[1] is None) is verdict(rules, family, number)


@pytest.mark.parametrize(
    "rule",
    [
        (b"reversedns/example.org", Rule(True)),
        (b"ip4/10.0.0.1_8", Rule(True)),
        (b"ip4/0.0.0.0_0", Rule(True, (), b"x")),
    ],
)
@pytest.mark.parametrize("module", [tcprules, hostsaccess, cidrlist, haproxy, nginx])
def test_what_no_other_format_can_say(rule: tuple[bytes, Rule], module: object) -> None:
    with pytest.raises(Unsayable) as raised:
        module.write(LoadedRules.of([rule]))  # type: ignore[attr-defined]
    assert [key for key, _ in raised.value.reasons] == [rule[0]]


# Lists


def test_lists() -> None:
    parsed = cidrlist.parse(b"# mine\n192.0.2.0/25 ; one # two\n\n2001:db8::1\n192.0.2.7\n", allow=False)
    assert parsed.rules == [(b"ip4/192.0.2.0_25", Rule(False)), (b"ip6/2001:db8::1_128", Rule(False))]
    assert parsed.entries[0].provenance.note == "one # two"
    assert [(remark.line, remark.message) for remark in parsed.remarks] == [
        (5, "192.0.2.7/32 is never reached: line 2 covers it")
    ]
    assert [line for line, _ in refused(cidrlist.parse, b"192.0.2.1/24\nexample.org\n10/8\n")] == [1, 2, 3]
    assert [line for line, _ in refused(haproxy.parse, b"# x\n10.0.0.0/8 # y\n")] == [2]


@pytest.mark.parametrize("note", ["owner=a owner=b", "expires=soon", "ticket=", "# x", 'owner="'])
def test_comments_of_lists_are_text_only(note: str) -> None:
    parsed = cidrlist.parse(f"10.0.0.0/8 # {note}\n".encode())
    again = text.parse(text.write(parsed.entries).encode())
    about = again.entries[0].provenance
    assert again.rules == parsed.rules and note in about.note
    assert (about.owner, about.ticket, about.expires) == ("", "", None)


# First match: nginx and hosts.allow

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


def test_keywords_of_hosts_in_lower_case() -> None:
    upper = hostsaccess.parse(b"ALL EXCEPT ftpd: 10.\n", b"ALL: ALL\n", daemon="sshd")
    assert hostsaccess.parse(b"all except ftpd: 10.\n", b"All: all\n", daemon="sshd").rules == upper.rules
    assert [line for line, _ in refused(hostsaccess.parse, b"ALL: local .local\n")] == [1]


def test_hosts_without_a_newline_at_the_end() -> None:
    assert [line for line, _ in refused(hostsaccess.parse, b"ALL: 10.\nALL: 11.")] == [2]


def test_an_address_in_hosts_has_no_mask() -> None:
    assert hostsaccess.write(LoadedRules.of([(b"ip4/10.0.0.1_32", Rule(True))])).startswith("ALL : 10.0.0.1 : allow\n")


def test_lists_of_haproxy_in_both_families() -> None:
    assert haproxy.parse(b"10.0.0.0/255.0.0.0\n::ffff:11.0.0.1\n").rules == [
        (b"ip4/10.0.0.0_8", Rule(True)),
        (b"ip6/2002:a00::_24", Rule(True)),
        (b"ip4/11.0.0.1_32", Rule(True)),
        (b"ip6/::a00:0_104", Rule(True)),
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


# tcprules

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


@NEEDS_TCPRULES
@given(_tcp_lines, st.lists(_clients, min_size=6, max_size=6))
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_imported_tcprules_decide_as_tcprulescheck_does(tmp_path: Path, lines: list[str], clients: list[str]) -> None:
    source = "".join(f"{line}\n" for line in lines)
    rules = dict(tcprules.parse(source.encode()).rules)
    cdb = tcp_compile(tmp_path, source)
    for client in clients:
        assert we_decide(rules, client) == tcp_decides(cdb, client)


@NEEDS_TCPRULES
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
