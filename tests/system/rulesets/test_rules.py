"""The rule sets of rules/: each compiles, strictly, and decides the same in both forms."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from s6tls.accessrules import RuleSet, Verdict

RULES = Path(__file__).parents[3] / "rules"
COMPILE = Path(sys.executable).parent / "s6-accessrules-cdb-from-fs"

# What an address gets: the rule that decides and its verdict.
DECISIONS: dict[str, dict[str, tuple[str, Verdict]]] = {
    "one-network": {
        "192.0.2.1": ("ip4/192.0.2.0_24", Verdict.ALLOW),
        "192.0.2.255": ("ip4/192.0.2.0_24", Verdict.ALLOW),
        "192.0.3.0": ("", Verdict.NOTFOUND),
        "127.0.0.1": ("", Verdict.NOTFOUND),
        "2001:db8::1": ("ip6/2001:db8::_32", Verdict.ALLOW),
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": ("ip6/2001:db8::_32", Verdict.ALLOW),
        "2001:db9::1": ("", Verdict.NOTFOUND),
        "::ffff:192.0.2.1": ("ip4/192.0.2.0_24", Verdict.ALLOW),
    },
    "deny-list": {
        "192.0.2.1": ("ip4/0.0.0.0_0", Verdict.ALLOW),
        "198.51.100.1": ("ip4/198.51.100.0_24", Verdict.DENY),
        "198.51.100.10": ("ip4/198.51.100.10_32", Verdict.ALLOW),
        "198.51.101.1": ("ip4/0.0.0.0_0", Verdict.ALLOW),
        "203.0.113.6": ("ip4/0.0.0.0_0", Verdict.ALLOW),
        "203.0.113.7": ("ip4/203.0.113.7_32", Verdict.DENY),
        "2001:db8::1": ("ip6/::_0", Verdict.ALLOW),
        "2001:db8:bad::1": ("ip6/2001:db8:bad::_48", Verdict.DENY),
    },
    "certificates": {
        "10.1.2.3": ("ip4/10.0.0.0_8", Verdict.ALLOW),
        "11.0.0.0": ("ip4/0.0.0.0_0", Verdict.ALLOW),
        "::1": ("", Verdict.NOTFOUND),
    },
    "partners": {
        "198.51.100.9": ("ip4/198.51.100.0_24", Verdict.ALLOW),
        "203.0.113.9": ("ip4/203.0.113.0_24", Verdict.ALLOW),
        "192.0.2.9": ("", Verdict.NOTFOUND),
    },
    "users": {
        "192.0.2.9": ("ip4/192.0.2.0_24", Verdict.ALLOW),
        "192.0.3.9": ("ip4/0.0.0.0_0", Verdict.ALLOW),
    },
    "maintenance": {
        "192.0.2.9": ("ip4/192.0.2.0_24", Verdict.ALLOW),
        "192.0.3.9": ("ip4/0.0.0.0_0", Verdict.ALLOW),
    },
    "demo": {
        "127.0.0.1": ("ip4/127.0.0.1_32", Verdict.ALLOW),
        "127.0.0.2": ("ip4/127.0.0.2_32", Verdict.ALLOW),
        "127.0.0.3": ("ip4/127.0.0.3_32", Verdict.DENY),
        "127.0.0.4": ("ip4/127.0.0.4_32", Verdict.ALLOW),
        "127.1.2.3": ("ip4/127.0.0.0_8", Verdict.ALLOW),
        "128.0.0.1": ("", Verdict.NOTFOUND),
        "::1": ("", Verdict.NOTFOUND),
    },
}
ENVIRONMENTS: dict[tuple[str, str], tuple[tuple[bytes, bytes | None], ...]] = {
    ("certificates", "10.1.2.3"): ((b"CERTFILE", b"/etc/s6tls/inside.pem"), (b"KEYFILE", b"/etc/s6tls/inside.key")),
    ("certificates", "11.0.0.0"): ((b"CERTFILE", b"/etc/s6tls/public.pem"), (b"KEYFILE", b"/etc/s6tls/public.key")),
    ("partners", "198.51.100.9"): ((b"CAFILE", b"/etc/s6tls/alpha-ca.pem"), (b"PARTNER", b"alpha")),
    ("partners", "203.0.113.9"): ((b"CAFILE", b"/etc/s6tls/beta-ca.pem"), (b"PARTNER", b"beta")),
    ("users", "192.0.2.9"): ((b"GID", b"1001"), (b"GIDLIST", b"2001"), (b"TCPCONNMAX", b"20"), (b"UID", b"1001")),
    ("users", "192.0.3.9"): ((b"GID", b"65534"), (b"GIDLIST", b""), (b"TCPCONNMAX", b"2"), (b"UID", b"65534")),
    ("demo", "127.0.0.1"): ((b"GREETING", b"hello, owner"), (b"VISITOR", b"owner")),
    ("demo", "127.0.0.2"): ((b"GREETING", b"welcome, guest"), (b"VISITOR", b"guest")),
    ("demo", "127.1.2.3"): ((b"GREETING", None), (b"VISITOR", b"stranger")),
}
EXECS = {("demo", "127.0.0.4"): b"closed for repairs", ("maintenance", "192.0.3.9"): b"back at noon"}

ELSEWHERE = ("named",)
"""Decided by more than addresses, and so checked in tests of their own."""

CASES = [(name, address) for name, addresses in DECISIONS.items() for address in addresses]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each rule set's cdb file."""
    place = tmp_path_factory.mktemp("rules")
    for name in DECISIONS:
        words = [str(COMPILE), "--strict", str(place / name), str(RULES / name / "tree")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
    return {name: place / name for name in DECISIONS}


def test_every_rule_set_is_here_and_has_its_page() -> None:
    assert sorted(path.name for path in RULES.iterdir() if path.is_dir()) == sorted([*DECISIONS, *ELSEWHERE])
    index = (RULES / "README.md").read_text()
    for name in (*DECISIONS, *ELSEWHERE):
        assert (RULES / name / "README.md").is_file()
        assert f"({name}/README.md)" in index


@pytest.mark.parametrize("form", ["tree", "cdb"])
@pytest.mark.parametrize(("name", "address"), CASES)
def test_decisions(name: str, address: str, form: str, compiled: dict[str, Path]) -> None:
    with RuleSet.open(str(compiled[name] if form == "cdb" else RULES / name / "tree")) as rules:
        decision = rules.check_address(address)
    assert ((decision.rule or b"").decode(), decision.verdict) == DECISIONS[name][address]
    assert tuple(sorted(decision.env)) == ENVIRONMENTS.get((name, address), ())
    wanted = EXECS.get((name, address), b"")
    assert wanted in decision.exec
    assert bool(wanted) == bool(decision.exec)


@pytest.mark.parametrize("name", DECISIONS)
def test_every_rule_decides_for_some_address_here(name: str) -> None:
    rules = {f"{rule.parent.name}/{rule.name}" for rule in (RULES / name / "tree").glob("*/*")}
    assert rules == {rule for rule, _ in DECISIONS[name].values()} - {""}


@pytest.mark.parametrize("name", [*DECISIONS, *ELSEWHERE])
def test_the_page_shows_the_tree_as_it_is(name: str) -> None:
    tree = RULES / name / "tree"
    shown = re.findall(r"^    (\S+/\S+)", (RULES / name / "README.md").read_text(), re.MULTILINE)
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    assert sorted(line for line in shown if not line.startswith(("s6-", "rules/"))) == files


@pytest.mark.parametrize("name", sorted({path.parent.name for path in RULES.glob("*/tree")} - {"demo"}))
def test_the_manual_quotes_the_tree_as_it_is(name: str) -> None:
    tree = RULES / name / "tree"
    manual = (RULES.parent / "docs" / "rule-sets.md").read_text()
    (section,) = (text for text in manual.split("\n## ") if f"(../rules/{name}/README.md)" in text)
    quoted = dict(re.findall(r'^    (\S+/\S+)(?: +"(.*)")?$', section, re.MULTILINE))
    files = {str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*") if path.is_file()}
    assert quoted == {file: text.rstrip("\n") if "/env/" in file else "" for file, text in files.items()}
    assert all(text in section for file, text in files.items() if file.endswith("/exec"))
