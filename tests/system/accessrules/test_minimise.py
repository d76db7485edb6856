"""s6-accessrules minimise as a process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.accessrules.cdb import write_cdb
from s6tls.audit.core.loaded import LoadedRules
from tests.support.commands import answer, run, said
from tests.support.rules import trees
from tests.support.servers import BIN, PATIENCE

COMMAND = ["s6-accessrules", "minimise"]
ALLOW, DENY, STAFF = Rule(True), Rule(False), Rule(True, ((b"ROLE", b"staff"),))
RULES = {
    b"ip4/10.0.0.0_8": ALLOW,
    b"ip4/10.1.0.0_16": ALLOW,
    b"ip4/10.2.0.0_16": DENY,
    b"ip4/10.3.0.0_16": DENY,
    b"ip4/10.9.9.9_32": DENY,
    b"ip4/10.0.0.1_8": DENY,
    b"ip6/2001:db8::_33": STAFF,
    b"ip6/2001:db8:8000::_33": STAFF,
    b"uid/0": ALLOW,
}
SMALL = {
    b"ip4/10.0.0.0_8": ALLOW,
    b"ip4/10.2.0.0_15": DENY,
    b"ip4/10.9.9.9_32": DENY,
    b"ip6/2001:db8::_32": STAFF,
    b"uid/0": ALLOW,
}


@pytest.fixture(params=["tree", "cdb"])
def rules(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = str(tmp_path / "rules")
    trees.write_form(request.param, path, RULES, mode=0o640)
    return path


@pytest.mark.parametrize("name", ["small", "small.cdb"])
def test_the_fewest_rules_for_people(rules: str, tmp_path: Path, name: str) -> None:
    out = str(tmp_path / name)
    done = run([*COMMAND, rules, out])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "ip4: 6 rules before, 3 after",
        "ip6: 2 rules before, 1 after",
        "other families: 1 rule, kept",
        "no lookup asks for: 1 rule, left out",
        "proof: what was written decides equally for every address",
    ]
    written = LoadedRules.load(out)
    assert written.rules == SMALL
    assert written.is_tree == (Path(rules).is_dir() and not name.endswith(".cdb"))
    assert run(["s6-accessrules", "diff", rules, out]).returncode == 0


def test_what_a_budget_changes(rules: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out.cdb")
    done = run([*COMMAND, rules, out, "--budget=1", "--protect", "10.2.0.0/15", "--protect=2001:db8::/32"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[4:] == [
        "proof: what was written decides otherwise for 1 address, and equally for all others",
        "",
        "prefixes     addresses  before  after",
        "10.9.9.9/32          1  deny    allow",
    ]
    assert LoadedRules.load(out).rules == {key: rule for key, rule in SMALL.items() if key != b"ip4/10.9.9.9_32"}


def test_what_is_protected_stays(rules: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out.cdb")
    assert run([*COMMAND, rules, out, "--budget=1", "--protect=10.9.0.0/16"]).returncode == 0
    assert LoadedRules.load(out).rules == SMALL


def test_for_machines(rules: str, tmp_path: Path) -> None:
    done = run([*COMMAND, "--json", "--budget=1", rules, str(tmp_path / "out.cdb")])
    assert (done.returncode, done.stderr) == (0, "")
    decision: dict[str, object] = {"env": {"set": {}, "unset": []}, "exec": None}
    assert answer(done) == {
        "before": 9,
        "after": 4,
        "families": {"ip4": {"before": 6, "after": 2}, "ip6": {"before": 2, "after": 1}},
        "changed": [
            {
                "family": "ip4",
                "prefixes": ["10.9.9.9/32"],
                "addresses": 1,
                "before": {"verdict": "deny", "rule": "ip4/10.9.9.9_32", **decision},
                "after": {"verdict": "allow", "rule": "ip4/10.0.0.0_8", **decision},
            }
        ],
        "addresses": 1,
    }


def test_a_cdb_may_take_the_place_of_the_one_it_is_made_of(tmp_path: Path) -> None:
    path = tmp_path / "rules"
    write_cdb(str(path), RULES.items(), mode=0o640)
    assert run([*COMMAND, str(path), str(path)]).returncode == 0
    assert LoadedRules.load(str(path)).rules == SMALL
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["rules"]


def test_a_tree_takes_no_place(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    trees.write_tree(os.fsencode(tree), RULES)
    before = trees.read_tree(os.fsencode(tree))
    code, stderr = said([*COMMAND, str(tree), str(tree)])
    assert (code, stderr) == (
        111,
        f"s6-accessrules minimise: fatal: unable to write {tree}: it exists, and a tree replaces nothing\n",
    )
    assert trees.read_tree(os.fsencode(tree)) == before


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--budget=", "invalid value for --budget"),
        ("--budget=-1", "invalid value for --budget"),
        ("--budget=1e9", "invalid value for --budget"),
        ("--budget=" + "9" * 5000, "invalid value for --budget"),
        ("--protect=10.0.0.1/8", r"invalid value for --protect: bits are set beyond the prefix"),
        ("--protect=example.org", "invalid value for --protect"),
        ("--protect=", "invalid value for --protect"),
        (b"--protect=\xff/8", "invalid value for --protect"),
        ("--frob", "unrecognized option"),
        ("more", "usage"),
    ],
)
def test_wrong_usage(rules: str, tmp_path: Path, option: str | bytes, problem: str) -> None:
    code, stderr = said([*COMMAND, option, rules, str(tmp_path / "out.cdb")])
    assert code == 100
    assert problem in stderr and stderr.count("\n") == 1
    assert not (tmp_path / "out.cdb").exists()


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("no cdb")
    for name in ("rules", "none"):
        code, stderr = said([*COMMAND, str(tmp_path / name), str(tmp_path / "out")])
        assert code == 111
        assert stderr.startswith(f"s6-accessrules minimise: fatal: unable to read {tmp_path}/{name}: ")
    assert os.listdir(tmp_path) == ["rules"]


@pytest.mark.parametrize("name", ["none/out", "none/out.cdb"])
def test_what_cannot_be_written(rules: str, tmp_path: Path, name: str) -> None:
    code, stderr = said([*COMMAND, rules, str(tmp_path / name)])
    assert code == 111
    assert stderr == f"s6-accessrules minimise: fatal: unable to write {tmp_path}/{name}: No such file or directory\n"


def test_an_environment_that_fits_no_record(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    large = tuple((b"V%d" % i, b"x" * 200) for i in range(40))
    trees.write_tree(os.fsencode(tree), {b"ip4/0.0.0.0_0": Rule(True, large)})
    code, stderr = said([*COMMAND, str(tree), str(tmp_path / "out.cdb")])
    assert code == 111
    assert "unable to write" in stderr and os.listdir(tmp_path) == ["tree"]


def test_a_signal_leaves_nothing_behind(tmp_path: Path) -> None:
    rules = {b"ip4/%d.%d.%d.0_24" % (i >> 16, i >> 8 & 255, i & 255): (ALLOW, DENY)[i % 2] for i in range(30000)}
    write_cdb(str(tmp_path / "rules"), rules.items())
    (tmp_path / "out.cdb").write_text("old")
    words = [os.path.join(BIN, COMMAND[0]), COMMAND[1], str(tmp_path / "rules"), str(tmp_path / "out.cdb")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(":s6tls:" in name for name in os.listdir(tmp_path)):
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == -signal.SIGTERM
    assert sorted(os.listdir(tmp_path)) == ["out.cdb", "rules"]
    assert (tmp_path / "out.cdb").read_text() == "old"
