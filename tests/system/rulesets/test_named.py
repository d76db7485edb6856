"""The rule set rules/named: addresses first, then names; and what happens to those who lie about theirs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from s6tls.accessrules import RuleSet, Verdict
from tests.support.nameserver import dnsmasq, reverse
from tests.support.servers import BIN, PATIENCE, read_all, server

NAMED = Path(__file__).parents[3] / "rules/named/tree"

ADDRESSES = {
    "192.0.2.1": ("ip4/192.0.2.0_24", Verdict.ALLOW, "office"),
    "203.0.113.1": ("ip4/203.0.113.0_24", Verdict.DENY, ""),
    "198.51.100.1": ("", Verdict.NOTFOUND, ""),
    "2001:db8::1": ("", Verdict.NOTFOUND, ""),
}
NAMES = {
    "example.org": ("reversedns/example.org", Verdict.ALLOW, "partner"),
    "www.example.org": ("reversedns/example.org", Verdict.ALLOW, "partner"),
    "WWW.Example.ORG.": ("reversedns/example.org", Verdict.ALLOW, "partner"),
    "a.b.example.org": ("reversedns/example.org", Verdict.ALLOW, "partner"),
    "build.example.org": ("reversedns/build.example.org", Verdict.ALLOW, "builder"),
    "two.build.example.org": ("reversedns/build.example.org", Verdict.ALLOW, "builder"),
    "rebuild.example.org": ("reversedns/example.org", Verdict.ALLOW, "partner"),
    "guest.example.org": ("reversedns/guest.example.org", Verdict.DENY, ""),
    "my.guest.example.org": ("reversedns/guest.example.org", Verdict.DENY, ""),
    "myexample.org": ("", Verdict.NOTFOUND, ""),
    "example.org.evil.test": ("", Verdict.NOTFOUND, ""),
    "org": ("", Verdict.NOTFOUND, ""),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The cdb file."""
    path = str(tmp_path_factory.mktemp("named") / "rules.cdb")
    words = [os.path.join(BIN, "s6-accessrules-cdb-from-fs"), "--strict", path, str(NAMED)]
    subprocess.run(words, check=True, timeout=PATIENCE)
    return path


@pytest.mark.parametrize("form", ["tree", "cdb"])
def test_decisions(form: str, compiled: str) -> None:
    with RuleSet.open(compiled if form == "cdb" else str(NAMED)) as rules:
        found = {address: rules.check_address(address) for address in ADDRESSES}
        found |= {name: rules.check_name(name) for name in NAMES}
    said = {who: ((it.rule or b"").decode(), it.verdict, dict(it.env).get(b"WHO", b"")) for who, it in found.items()}
    expected = {who: (rule, verdict, value.encode()) for who, (rule, verdict, value) in (ADDRESSES | NAMES).items()}
    assert said == expected


def test_every_rule_decides_for_somebody_here() -> None:
    rules = {f"{rule.parent.name}/{rule.name}" for rule in NAMED.glob("*/*")}
    assert rules == {rule for rule, _, _ in (ADDRESSES | NAMES).values()} - {""}


def test_served_as_the_page_says(compiled: str) -> None:
    clients = {
        "127.9.0.1": ("www.example.org", True, b"partner\n"),
        "127.9.0.2": ("two.build.example.org", True, b"builder\n"),
        "127.9.0.3": ("my.guest.example.org", True, b""),
        "127.9.0.4": ("www.example.org", False, b""),
        "127.9.0.5": ("example.org.evil.test", True, b""),
        "127.9.0.6": ("", False, b""),
    }
    zone = ["--local=/example.org/"]
    for address, (name, honest, _) in clients.items():
        if name:
            zone.append(f"--ptr-record={reverse(address)},{name}")
        if honest:
            zone.append(f"--host-record={name},{address}")
    words = ["s6-tcpserver", "127.0.0.1", "0", "s6-tcpserver-access", "-p", "-t", "5000", "-x", compiled]
    with dnsmasq(*zone) as dns, server([*words, "printenv", "WHO"], {"DNSCACHEIP": dns}) as serving:
        for address, (_, _, answer) in clients.items():
            with serving.connect(source=address) as client:
                assert read_all(client) == answer, address
