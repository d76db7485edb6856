"""s6-accessrules sync and export nft beside the kernel, in a network namespace."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.accessrules.keys import parse_address
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.kernel import Table, denied, parse, update
from s6tls.cli.accessrules import sync
from s6tls.cli.frame.options import UsageError
from tests.support.commands import answer, said
from tests.support.kernel.namespace import Namespace, namespace
from tests.support.rules import trees

COMMAND = ["s6-accessrules", "sync", "nft"]
WORDS = ["rules", "--table=guard", "--port=443"]
PORT = 443
TABLE = Table("guard", ((PORT, PORT),))
ALLOW, DENY = Rule(True), Rule(False)
RULES = {
    b"ip4/10.0.0.0_8": DENY,
    b"ip4/10.1.0.0_16": ALLOW,
    b"ip4/192.0.2.7_32": DENY,
    b"ip6/2001:db8::_32": DENY,
    b"reversedns/example.org": ALLOW,
}
CLIENTS = ["10.0.0.1", "10.1.0.1", "10.2.0.1", "192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db9::1"]
ALLOWED = {"10.1.0.1", "192.0.2.8", "2001:db9::1"}


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, space: Namespace, monkeypatch: pytest.MonkeyPatch) -> Path:
    space.nft("flush", "ruleset")
    trees.write_tree(os.fsencode(tmp_path / "rules"), RULES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def random_rules(rng: random.Random) -> dict[bytes, Rule]:
    """Rules in networks whose addresses any client may have: none for several or for nobody."""
    rules: dict[bytes, Rule] = {}
    for family, number, bits in ((Family.IP4, 10 << 24, 24), (Family.IP6, 0x20010DB8 << 96, 96)):
        near = [number + rng.getrandbits(bits) for _ in range(3)]
        for _ in range(rng.randrange(25)):
            free = rng.randrange(bits + 1)
            at = rng.choice(near) >> free << free
            rules[family.key(at, family.bits - free)] = rng.choice([ALLOW, DENY])
    return rules


def edges(loaded: LoadedRules) -> list[str]:
    """Addresses on either side of wherever the deciding rule changes."""
    found = set()
    for family, low, high in (
        (Family.IP4, 10 << 24, 11 << 24),
        (Family.IP6, 0x20010DB8 << 96, 0x20010DB9 << 96),
    ):
        for start, _, _ in loaded.partition(family).intervals():
            found |= {(family, number) for number in (start - 1, start) if low <= number < high}
    return [family.text(number) for family, number in sorted(found, key=lambda one: (one[0].value, one[1]))]


def test_each_client_is_decided_as_the_rules_say(space: Namespace, place: Path) -> None:
    rng, state, seen = random.Random(7), None, set()
    for _ in range(12):
        loaded = LoadedRules.of(random_rules(rng).items())
        wanted = denied(loaded)
        space.nft("-f", "-", given="\n".join(update(TABLE, wanted, state).commands) + "\n")
        state = parse(space.nft("-j", "list", "table", "inet", "guard").encode())
        assert (state.marks, state.denied) == (TABLE.marks(), wanted)
        clients = edges(loaded)
        refused = {client for client in clients if decided(loaded, client) is False}
        assert space.admitted(clients, PORT) == set(clients) - refused
        seen |= {decided(loaded, client) for client in clients}
    assert seen == {True, False, None}


def decided(loaded: LoadedRules, client: str) -> bool | None:
    """Whether a client is allowed by address; None if no rule decides."""
    rule = loaded.decide(parse_address(client)).rule
    return None if rule is None else rule.allow


def test_a_table_is_made_kept_changed_and_removed(space: Namespace, place: Path) -> None:
    assert space.admitted(CLIENTS, PORT) == set(CLIENTS)
    done = space.run([*COMMAND, *WORDS])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "table inet guard: made",
        "denied ranges: 3 IPv4, 1 IPv6",
        "denied addresses: 16,711,681 IPv4, 79,228,162,514,264,337,593,543,950,336 IPv6",
    ]
    assert space.admitted(CLIENTS, PORT) == ALLOWED
    handles = space.nft("-a", "list", "table", "inet", "guard")
    assert space.run([*COMMAND, *WORDS]).stdout.splitlines()[0] == "table inet guard: unchanged"
    assert space.nft("-a", "list", "table", "inet", "guard") == handles
    trees.write_tree(b"new", {b"ip4/10.0.0.0_8": DENY, b"ip4/10.2.0.0_16": ALLOW, b"ip6/2001:db8::_32": DENY})
    changed = space.run([*COMMAND, "new", *WORDS[1:], "--json"])
    ip6 = 2**96
    assert answer(changed) == {
        "table": "guard",
        "state": "changed",
        "ranges": {"ip4": 2, "ip6": 1},
        "addresses": {"ip4": 2**24 - 2**16, "ip6": str(ip6)},
        "added": {"ip4": 2, "ip6": 0},
        "removed": {"ip4": 3, "ip6": 0},
        "refilled": [],
    }
    assert space.admitted(CLIENTS, PORT) == ALLOWED - {"10.1.0.1"} | {"10.2.0.1", "192.0.2.7"}
    remove = [*COMMAND, "--remove", "--table=guard"]
    assert space.run([*remove, "--dry-run"]).stdout == "delete table inet guard\n"
    assert space.run(remove).stdout == "table inet guard: removed\n"
    assert answer(space.run([*remove, "--json"])) == {"table": "guard", "state": "absent"}
    assert space.nft("list", "ruleset") == ""


def test_who_is_only_logged_gets_in(space: Namespace, place: Path) -> None:
    assert space.run([*COMMAND, *WORDS]).returncode == 0
    assert "denied" in space.run([*COMMAND, *WORDS, "--log"]).stdout
    assert space.admitted(CLIENTS, PORT) == set(CLIENTS)
    counted = json.loads(space.nft("-j", "list", "chain", "inet", "guard", "refuse"))["nftables"]
    expressions = [one["rule"]["expr"] for one in counted if "rule" in one]
    assert [part["counter"]["packets"] for rule in expressions for part in rule if "counter" in part] == [3, 1]
    assert all(any("log" in part for part in rule) for rule in expressions)


def test_who_is_undecided_is_dropped_when_that_is_asked_for(space: Namespace, place: Path) -> None:
    done = space.run([*COMMAND, *WORDS, "--undecided=drop"])
    assert done.stderr.endswith("warning: rules has rules that allow names: only servers with -H refuse so\n")
    assert space.admitted(CLIENTS, PORT) == {"10.1.0.1"}


@pytest.mark.parametrize(
    "command",
    [
        ["s6-accessrules", "export", "nft", *WORDS],
        [*COMMAND, *WORDS, "--dry-run"],
    ],
)
def test_the_commands_can_be_run_by_hand(space: Namespace, place: Path, command: list[str]) -> None:
    commands = space.run(command).stdout
    assert space.nft("list", "ruleset") == ""
    space.nft("-f", "-", given=commands)
    assert space.admitted(CLIENTS, PORT) == ALLOWED
    assert space.run([*COMMAND, *WORDS]).stdout.startswith("table inet guard: unchanged\n")
    assert space.run([*COMMAND, *WORDS, "--dry-run"]).stdout == ""


@pytest.mark.parametrize(
    "spoil",
    [
        "flush chain inet guard refuse",
        "add chain inet guard other",
        "add rule inet guard refuse accept",
        "delete table inet guard; add table inet guard",
    ],
)
def test_a_table_of_somebody_else_is_left_alone(space: Namespace, place: Path, spoil: str) -> None:
    commands = [*update(TABLE, {Family.IP4: [], Family.IP6: []}).commands, *spoil.split("; ")]
    space.nft("-f", "-", given="\n".join(commands) + "\n")
    before = space.nft("list", "ruleset")
    for words in (WORDS, ["--remove", "--table=guard"]):
        done = space.run([*COMMAND, *words])
        assert (done.returncode, done.stdout) == (111, "")
        assert "fatal: unable to use table inet guard: s6-accessrules did not make it: it has" in done.stderr
    assert space.nft("list", "ruleset") == before


def test_a_table_of_another_family_is_no_hindrance(space: Namespace, place: Path) -> None:
    space.nft("add", "table", "ip", "guard")
    assert space.run([*COMMAND, *WORDS]).stdout.startswith("table inet guard: made\n")
    assert space.run([*COMMAND, "--remove", "--table=guard"]).returncode == 0
    assert space.nft("list", "ruleset") == "table ip guard {\n}\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nft"], "no RULES are named"),
        (["nft", "rules", "--remove", "--table=x"], "--remove takes no RULES"),
        (["pf", "rules"], "unknown kind of table: pf"),
        (["nft", "rules", "--port=443"], "no table is named"),
        (["nft", "rules", "--port=443", "--table=a b"], "invalid value for --table: a b"),
        (["nft", "rules", "--table=x"], "no port is named"),
        (["nft", "rules", "--table=x", "--port=0"], "invalid value for --port: 0"),
        (["nft", "rules", "--table=x", "--port=9-8"], "invalid value for --port: 9-8"),
        (["nft", "rules", "--table=x", "--port=1,65536"], "invalid value for --port: 65536"),
        (["nft", "rules", "--table=x", "--port=1", "--undecided=y"], "invalid value for --undecided: y"),
        (["nft", "rules", "--table=x", "--port=1", "--dry-run", "--json"], "--dry-run prints commands"),
    ],
)
def test_wrong_usage(words: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        sync.body([word.encode() for word in words])


def test_what_nft_cannot_do_is_said(space: Namespace, place: Path) -> None:
    done = space.run([*COMMAND, "rules", "--table=drop", "--port=443"])
    assert done.returncode == 111
    assert done.stderr.startswith("s6-accessrules sync: fatal: unable to change table inet drop: ")
    assert done.stderr.count("\n") == 1
    (place / "nft").write_text("#!/bin/sh\nexit 3\n")
    (place / "nft").chmod(0o755)
    code, stderr = said([*COMMAND, *WORDS], {"PATH": str(place)})
    assert (code, stderr.split("fatal: ")[1]) == (111, "unable to read table inet guard: nft ended with code 3\n")
