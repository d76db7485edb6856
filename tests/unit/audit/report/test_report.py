"""Reports as texts: what stands in a page before any browser sees it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from pathlib import Path

import pytest

from s6tls.accessrules import MalformedRecord, Rule
from s6tls.accessrules.cdb import write_cdb
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.lint.findings import Finding, Severity
from s6tls.audit.logs import Log, Replay
from s6tls.audit.report import sections
from s6tls.audit.report.report import Earlier, Report, report
from tests.support.rules import trees

RULES = {
    b"ip4/192.0.2.0_24": Rule(True, ((b"A", b"1"), (b"B", None)), b"echo hello"),
    b"ip4/192.0.2.1_8": Rule(True),
    b"ip4/0.0.0.0_0": Rule(False),
    b"ip6/2001:db8::_32": Rule(True),
    b"reversedns/\xff": Rule(True),
}


def page(place: Path, rules: trees.Rules, name: str = "rules.cdb") -> Report:
    write_cdb(str(place / name), rules.items())
    return report(str(place / name))


def embedded(made: Report) -> dict[str, list[object]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', made.html, re.DOTALL)
    assert found is not None
    data: dict[str, list[object]] = json.loads(found[1])
    return data


def test_both_forms_have_the_same_rules_in_their_pages(tmp_path: Path) -> None:
    trees.write_tree(os.fsencode(tmp_path / "tree"), RULES)
    tree, cdb = report(str(tmp_path / "tree")), page(tmp_path, RULES)
    assert embedded(tree) == embedded(cdb)
    assert (tree.rules, tree.name, cdb.name) == (5, "tree", "rules.cdb")
    assert "directory tree" in tree.html and "cdb file" in cdb.html


def test_networks_come_in_their_order_with_what_they_decide(tmp_path: Path) -> None:
    data = embedded(page(tmp_path, RULES))
    assert list(zip(data["keys"], data["decided"], strict=True)) == [
        ("ip4/0.0.0.0_0", str(2**32 - 256)),
        ("ip4/192.0.2.0_24", "256"),
        ("ip4/192.0.2.1_8", "0"),
        ("ip6/2001:db8::_32", str(2**96)),
        ("reversedns/\\xff", None),
    ]
    assert data["opaque"] == [4]
    assert data["outcomes"] == [
        {"verdict": "deny", "env": {"set": {}, "unset": []}, "exec": None},
        {"verdict": "allow", "env": {"set": {"A": "1"}, "unset": ["B"]}, "exec": "echo hello"},
        {"verdict": "allow", "env": {"set": {}, "unset": []}, "exec": None},
    ]
    assert data["outcome"] == [0, 1, 2, 2, 2]


def test_the_same_rules_under_the_same_name_make_the_same_page(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, other = page(tmp_path, RULES), page(tmp_path / "other", RULES)
    assert one == other
    assert str(tmp_path) not in one.html


def test_the_policy_allows_the_one_style_and_the_one_script(tmp_path: Path) -> None:
    text = page(tmp_path, RULES).html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and policy[1].startswith("default-src 'none'; ")
    for name, tag in (("style", "style"), ("script", "script")):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy[1]
    assert not re.search(r'\b(src|style|on\w+)="', text)


def test_the_parts_without_script_have_it_all_in_words(tmp_path: Path) -> None:
    static = page(tmp_path, RULES).html.partition('id="data"')[0].replace("<wbr>", "")
    assert "4,294,967,040" in static  # denied
    assert f"{2**96:,}" in static
    assert "host-bits" in static and "ip4/192.0.2.1_8" in static
    assert "<noscript>" in static


@pytest.mark.parametrize("name", ["</script><script>x", "a&b<!--", '"onload="x', "tab\t$script$$"])
def test_names_are_escaped(tmp_path: Path, name: str) -> None:
    name = name.replace("/", "\N{DIVISION SLASH}")
    made = page(tmp_path, RULES, name)
    assert f"<h1>{html.escape(name.replace(chr(9), chr(92) + 't'))}</h1>" in made.html
    assert made.html.count("<script") == 2


def test_no_rules_at_all(tmp_path: Path) -> None:
    made = page(tmp_path, {})
    assert made.rules == 0
    assert embedded(made)["keys"] == []
    assert "There are no rules." in made.html


def test_a_broken_rule_is_an_error(tmp_path: Path) -> None:
    write_cdb(str(tmp_path / "rules"), [(b"ip4/0.0.0.0_0", Rule(False)), (b"ip6/::_0", Rule(True))])
    whole = (tmp_path / "rules").read_bytes()
    (tmp_path / "rules").write_bytes(whole.replace(b"A\0\0\0\0", b"A\0\0\0\1"))
    with pytest.raises(MalformedRecord):
        report(str(tmp_path / "rules"))


def test_of_many_findings_of_a_kind_some_are_left_to_lint() -> None:
    some = [Finding("odd", Severity.NOTE, "it is <odd>", "none", b"ip4/%d" % number) for number in range(250)]
    text = sections.findings([*some, Finding("bad", Severity.ERROR, "it is bad", "none")])
    assert text.index("it is bad") < text.index("it is &lt;odd&gt;")
    assert text.count("<li>") == 1 + sections.MOST_OF_A_KIND
    assert "150 more of this kind are not in this page" in text


def test_families_are_counted_by_verdict() -> None:
    rules = {b"ip4/0.0.0.0_0": Rule(False), b"ip4/1.0.0.0_8": Rule(True), b"<b>/x": Rule(True)}
    text = sections.summary(LoadedRules.of(rules.items()), [])
    cells = re.findall(r'<th scope="row">(.*?)</th>' + 3 * r'<td class="number">(\d+)</td>', text)
    assert cells == [("IPv4", "2", "1", "1"), ("&lt;b&gt;", "1", "1", "0")]


def replayed(loaded: LoadedRules, log: Path) -> Replay:
    found = Replay(loaded)
    found.read(Log(os.fsencode(log)))
    found.finish()
    return found


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", text.replace("<wbr>", "")).split())


def test_the_page_says_what_has_changed_and_what_logs_have_hit(tmp_path: Path) -> None:
    old = {**RULES, b"ip4/0.0.0.0_0": Rule(True), b"reversedns/<b>": Rule(True)}
    (tmp_path / "log").write_text("192.0.2.1\n192.0.2.1\n192.0.2.2\n8.8.8.8\n2001:db9::1\n-\n")
    write_cdb(str(tmp_path / "rules.cdb"), RULES.items())
    against = Earlier("/somewhere/<old>", LoadedRules.of(old.items()))
    made = report(
        str(tmp_path / "rules.cdb"),
        colour_by="rule",
        against=against,
        replay=lambda loaded: replayed(loaded, tmp_path / "log"),
    )
    assert made.differences == 2
    changes, _, rest = made.html.partition('<section id="changes"')[2].partition('<section id="hits"')
    told = words(changes)
    assert "Since &lt;old&gt; , addresses that are decided otherwise: IPv4: 4,294,967,040; IPv6: 0." in told
    assert "0.0.0.0/1 128.0.0.0/2 192.0.0.0/23 … and 21 more allow by ip4/0.0.0.0_0 deny by ip4/0.0.0.0_0" in told
    assert "4,294,967,040 1 1 reversedns/&lt;b&gt; allow by reversedns/&lt;b&gt; undecided - - -" in told
    told = words(rest.partition("<section")[0])
    assert "Lines: 6, 1 of them without an address. Clients: 4." in told
    assert "allow 60.00 % 3 deny 20.00 % 1 undecided 20.00 % 1" in told
    assert "ip4/192.0.2.0_24 allow A=1 -B exec: echo hello 3 ip4/0.0.0.0_0 deny 1" in told
    assert "2 rules without a hit ip4/192.0.2.1_8 ip6/2001:db8::_32" in told
    assert told.endswith("Clients that no rule by address decides Hits 2001:db9::1 1")
    assert embedded(made)["hits"] == [1, 3, 0, 0, None]
    assert "rules that allow, in turn" in made.html


def test_nothing_has_changed(tmp_path: Path) -> None:
    write_cdb(str(tmp_path / "rules.cdb"), RULES.items())
    made = report(str(tmp_path / "rules.cdb"), against=Earlier("same", LoadedRules.of(RULES.items())))
    assert made.differences == 0 and "All is decided as by <code>same</code>." in made.html
    assert "hits" not in embedded(made)


def test_a_remedy_that_asks_has_no_full_stop() -> None:
    text = sections.findings([Finding("unknown-family", Severity.WARNING, "no family", "did you mean ip6?")])
    assert "Remedy: did you mean ip6?<" in text
