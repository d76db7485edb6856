"""Lists over lists, and what becomes of clients that no line decides."""

from __future__ import annotations

import pytest

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.formats import cidrlist, hostsaccess, layers, nginx, tcprulescdb, text
from s6tls.audit.formats.entries import BadText, Parsed
from s6tls.audit.policy.shrink import losses


def written(parsed: Parsed) -> list[str]:
    return text.write(parsed.entries, parsed.trailing).splitlines()


def layered(*lists: Parsed) -> Parsed:
    numbered = [layers.numbered(parsed, place) for place, parsed in enumerate(lists)]
    return layers.layered(numbered, ["first", "second", "third"])


def test_a_later_list_decides_over_earlier_ones() -> None:
    allowed = cidrlist.parse(b"# ours\n10.0.0.0/8 # all\n192.0.2.128/25\n2001:db8::/32\n")
    denied = cidrlist.parse(b"10.1.0.0/16\n192.0.2.0/24\n", allow=False)
    again = text.parse(b"allow ip4 10.1.2.0/24  # owner=ops\n")
    parsed = layered(allowed, denied, again)
    assert written(parsed) == [
        "# ours",
        "allow ip4 10.0.0.0/8  # first:2 all",
        "allow ip6 2001:db8::/32  # first:4",
        "deny ip4 10.1.0.0/16  # second:1",
        "deny ip4 192.0.2.0/24  # second:2",
        "allow ip4 10.1.2.0/24  # owner=ops third:1",
    ]
    assert [(remark.file, remark.line) for remark in parsed.remarks] == [(0, 3)]


def test_what_no_line_says_counts_in_the_first_list_only() -> None:
    first, later = nginx.parse(b"deny 10.0.0.0/8;\n"), nginx.parse(b"deny 192.0.2.0/24;\n")
    assert [rule.allow for _, rule in layered(first, later).rules] == [False, False, True, True]
    named = hostsaccess.parse(b"ALL: example.org .example.org\n", b"ALL: ALL\n")
    assert b"reversedns/@" in dict(layered(named, later).rules)
    with pytest.raises(BadText):
        layered(first, named)


def test_clients_that_no_line_decides() -> None:
    parsed = nginx.parse(b"deny 10.0.0.0/8;\nallow ::/0;\n")
    assert written(layers.with_default(parsed, False)) == [
        "deny ip4 10.0.0.0/8",
        "allow ip6 ::/0",
        "deny ip4 0.0.0.0/0",
    ]
    assert written(layers.without_implied_allows(parsed)) == ["deny ip4 10.0.0.0/8", "allow ip6 ::/0"]
    named = text.parse(b"allow reversedns example.org\n")
    assert written(layers.with_default(named, False))[1:] == ["deny reversedns @"]


def test_what_is_refused_leaves_the_rest() -> None:
    with pytest.raises(BadText) as raised:
        hostsaccess.parse(b"ALL: 10.\nALL: x .y\nALL: ALL : spawn x", daemon="sshd")
    assert [fault.line for fault in raised.value.faults] == [2, 2, 3, 3]
    rest = layers.without_implied_allows(raised.value.rest)
    assert written(rest) == ["allow ip4 10.0.0.0/8"]


def test_a_file_that_tcprules_did_not_make() -> None:
    for data in (b"", b"x" * 3000, bytes(2048)[:-1]):
        with pytest.raises(BadText):
            tcprulescdb.parse(data)


def test_losses() -> None:
    def rules(*networks: str, allow: bool = True) -> LoadedRules:
        parsed = cidrlist.parse("\n".join(networks).encode(), allow=allow)
        return LoadedRules.of([*parsed.rules, (b"ip4/0.0.0.0_0", Rule(not allow))])

    old = rules("10.0.0.0/30", "2001:db8::/127")
    assert [*losses(old, rules("10.0.0.0/31", "2001:db8::/128"), 50)] == []
    (lost,) = losses(old, rules("10.0.0.0/32", "2001:db8::/127"), 50)
    assert lost == "1 of 4 IPv4 addresses that were allowed are left"
    assert [*losses(old, rules("10.0.0.0/32", "2001:db8::/127"), 75)] == []
    assert len([*losses(old, rules(), 100)]) == 2
    assert len([*losses(old, rules("10.0.0.0/30", "2001:db8::/127", allow=False), 50)]) == 2
