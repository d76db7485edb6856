"""s6-accessrules import, export and build as processes: what is refused, and that nothing is then written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from s6tls.accessrules import Rule
from s6tls.accessrules.cdb import write_cdb
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.formats.registry import READERS, WRITERS
from tests.support.commands import answer, run, said
from tests.support.rules import trees

IMPORT, EXPORT, BUILD = (["s6-accessrules", name] for name in ("import", "export", "build"))
TEXT = 'allow ip4 192.0.2.0/24 A="x y"  # owner=ops expires=2026-01-31\ndeny ip4 192.0.2.7/32  # expires=2025-01-31\n'
RULES = {b"ip4/192.0.2.0_24": Rule(True, ((b"A", b"x y"),)), b"ip4/192.0.2.7_32": Rule(False)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "text").write_text(TEXT)
    return tmp_path / "text"


def test_build_leaves_out_what_has_expired(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "rules.cdb"
    code, stderr = said([*BUILD, "--today=2026-01-31", "-m", "640", str(source), str(out)])
    assert code == 0
    assert stderr == (
        f"s6-accessrules build: warning: {source}:2: deny ip4/192.0.2.7_32 expired on 2025-01-31 and is left out: "
        "ip4/192.0.2.0_24 (allow) decides in its place\n"
    )
    assert LoadedRules.load(str(out)).rules == {b"ip4/192.0.2.0_24": RULES[b"ip4/192.0.2.0_24"]}
    assert out.stat().st_mode & 0o7777 == 0o640
    code, stderr = said([*BUILD, "--today=2026-02-01", str(source), str(out)])
    assert code == 0 and stderr.count("\n") == 2 and "left out: no wider rule by address is left\n" in stderr
    assert LoadedRules.load(str(out)).rules == {}


def test_build_keeps_the_old_cdb_when_lines_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"deny uid 1\nallow ip4 10.0.0.1/8\ndeny uid 1\n\x1b\n")
    (tmp_path / "old").write_bytes(b"old")
    code, stderr = said([*BUILD, str(tmp_path / "text"), str(tmp_path / "old")])
    assert code == 100
    lines = stderr.splitlines()
    assert [line.partition("text:")[2][:2] for line in lines[:-1]] == ["2:", "3:", "4:"]
    assert lines[-1].endswith("text: 3 lines refused")
    assert (tmp_path / "old").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["old", "text"]


def test_what_is_said_of_expired_rules_by_name_and_uid(tmp_path: Path) -> None:
    (tmp_path / "text").write_text(
        "deny reversedns a.example # expires=2025-01-31\ndeny uid 7 # expires=2025-01-31\nallow uid default\n"
    )
    code, stderr = said([*BUILD, "--today=2026-01-31", str(tmp_path / "text"), str(tmp_path / "out")])
    assert code == 0
    by_name, by_uid = stderr.splitlines()
    assert by_name.endswith("and is left out: no wider rule by name is left") and by_uid.endswith("and is left out")


def answered(words: list[str], code: int = 0) -> Any:
    done = run([*words, "--json"])
    assert done.returncode == code and bool(done.stderr) is (code != 0)
    return answer(done)


def test_build_in_json(source: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "rules.cdb")
    done = run([*BUILD, "--today=2026-01-31", "--json", str(source), out])
    expired = {"line": 2, "rule": "ip4/192.0.2.7_32", "verdict": "deny", "expires": "2025-01-31"}
    assert answer(done) == {
        "out": out,
        "rules": 1,
        "expired": [{**expired, "instead": {"rule": "ip4/192.0.2.0_24", "verdict": "allow"}}],
    }
    (tmp_path / "bad").write_text("deny uid 1\npermit\n")
    (refused,) = answered([*BUILD, str(tmp_path / "bad"), out], 100)["refused"]
    assert (refused["file"], refused["line"]) == (str(tmp_path / "bad"), 2) and refused["message"]


def test_import_in_json(source: Path, tmp_path: Path) -> None:
    source.write_text("# mine\n" + TEXT)
    first, second = answered([*IMPORT, "text", str(source)])["rules"]
    env = {"set": {"A": "x y"}, "unset": []}
    about = {"owner": "ops", "ticket": None, "expires": "2026-01-31", "note": None, "comments": ["mine"]}
    where = {"file": str(source), "line": 2}
    assert first == {"key": "ip4/192.0.2.0_24", "verdict": "allow", "env": env, "exec": None, **where, **about}
    assert second["verdict"] == "deny" and second["owner"] is None
    out = str(tmp_path / "rules.cdb")
    assert answered([*IMPORT, "text", str(source), out]) == {"out": out, "rules": 2, "unreached": [], "skipped": []}
    (tmp_path / "list").write_text("10.0.0.0/8\n" + "10.0.0.1\n" * 200)
    done = run([*IMPORT, "cidr", str(tmp_path / "list"), "--json"])
    unreached = answer(done)["unreached"]
    assert len(unreached) == 200 and unreached[0]["line"] == 2 and unreached[0]["file"] == str(tmp_path / "list")


def test_export_in_json(source: Path, tmp_path: Path) -> None:
    tree, out = str(tmp_path / "tree"), str(tmp_path / "out")
    assert said([*IMPORT, "text", str(source), f"{tree}/"]) == (0, "")
    assert answered([*EXPORT, "tcprules", tree, out]) == {"out": out, "format": "tcprules", "rules": 2}
    why = "the format cannot set variables: A"
    assert answered([*EXPORT, "cidr", tree, out], 100) == {"refused": [{"rule": "ip4/192.0.2.0_24", "message": why}]}


def test_many_remarks_are_not_all_told(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("10.0.0.1\n" * 1001)
    done = run([*IMPORT, "cidr", str(tmp_path / "list")])
    assert done.returncode == 0 and done.stdout == "allow ip4 10.0.0.1/32\n"
    assert done.stderr.count("\n") == 101 and "and 900 more remarks on lines that are never reached" in done.stderr


def test_many_faults_are_not_all_told(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("x\n" * 1000)
    code, stderr = said([*IMPORT, "cidr", str(tmp_path / "list")])
    assert code == 100 and stderr.count("\n") == 101 and "1,000 lines refused" in stderr


def test_import_and_export_each_form(source: Path, tmp_path: Path) -> None:
    for out in (str(tmp_path / "rules.cdb"), str(tmp_path / "tree")):
        assert said([*IMPORT, "text", str(source), out if out.endswith(".cdb") else f"{out}/"]) == (0, "")
        done = run([*EXPORT, "text", out])
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == 'allow ip4 192.0.2.0/24 A="x y"\ndeny ip4 192.0.2.7/32\n'
        assert said([*EXPORT, "tcprules", out, str(tmp_path / "tcp")]) == (0, "")
        assert (tmp_path / "tcp").read_text() == '192.0.2.7:deny\n192.0.2.:allow,A="x y"\n:deny\n'
        code, stderr = said([*EXPORT, "nginx", out])
        assert code == 100 and "unable to export ip4/192.0.2.0_24: the format cannot set variables: A\n" in stderr
    done = run([*IMPORT, "text", str(source)])
    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, "")


def test_verdicts_in_other_formats(tmp_path: Path) -> None:
    tree = str(tmp_path / "tree")
    trees.write_tree(
        os.fsencode(tree), {b"ip4/0.0.0.0_1": Rule(True), b"ip6/::_0": Rule(True), b"ip4/9.0.0.0_8": Rule(False)}
    )
    assert run([*EXPORT, "nginx", tree]).stdout == "deny 9.0.0.0/8;\nallow 0.0.0.0/1;\nallow ::/0;\ndeny all;\n"
    assert run([*EXPORT, "--verdict=deny", "haproxy", tree]).stdout == "::ffff:9.0.0.0/104\n::ffff:128.0.0.0/97\n"
    assert run([*EXPORT, "--daemon=sshd", "hosts", tree]).stdout.splitlines() == [
        "sshd : 9.0.0.0/255.0.0.0 : deny",
        "sshd : 0.0.0.0/128.0.0.0 : allow",
        "sshd : [::]/0 : allow",
        "sshd : ALL : deny",
    ]


def test_hosts_from_two_files(tmp_path: Path) -> None:
    allow, deny = tmp_path / "allow", tmp_path / "deny"
    allow.write_text("sshd: 192.0.2.\n")
    deny.write_text("ALL: ALL\nALL: 10.\nALL: KNOWN\n")
    words = [*IMPORT, "hosts", str(allow), f"--deny={deny}", "--daemon=sshd"]
    code, stderr = said(words)
    assert code == 100 and f"error: {deny}:3: rules cannot express this pattern: 'KNOWN'\n" in stderr
    deny.write_text("ALL: ALL\nALL: 10.\n")
    done = run(words)
    assert (done.returncode, done.stdout) == (0, "allow ip4 192.0.2.0/24\ndeny ip4 0.0.0.0/0\ndeny ip6 ::/0\n")
    assert done.stderr == f"s6-accessrules import: warning: {deny}:2: 10.0.0.0/8 is never reached: line 1 covers it\n"
    allow.write_text("ALL: LOCAL\n")
    (tmp_path / "hosts").write_text("192.0.2.7 printer # here\n192.0.2.8 a.example b\n")
    done = run([*IMPORT, "hosts", str(allow), f"--local={tmp_path}/hosts", "--else=deny"])
    assert (done.returncode, done.stdout) == (0, "allow ip4 192.0.2.7/32\ndeny ip4 0.0.0.0/0\ndeny ip6 ::/0\n")


def test_a_line_with_two_faults_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "allow").write_text("ALL: ALL: spawn x")
    code, stderr = said([*IMPORT, "hosts", str(tmp_path / "allow")])
    assert code == 100 and stderr.count(f"{tmp_path}/allow:1: ") == 2
    assert stderr.endswith(f"unable to take {tmp_path}/allow: 1 line refused\n")


def test_stdin() -> None:
    done = run([*IMPORT, "cidr", "-"], given="10.0.0.0/8 # mine\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "allow ip4 10.0.0.0/8  # mine\n", "")


@pytest.mark.parametrize(
    "words",
    [
        [*IMPORT, "cidr"],
        [*IMPORT, "nosuch", "x"],
        [*IMPORT, "cidr", "x", "--verdict=maybe"],
        [*IMPORT, "nginx", "x", "--verdict=deny"],
        [*EXPORT, "text", "x", "--daemon=d"],
        [*IMPORT, "hosts", "/dev/null", "--daemon=a:b"],
        [*EXPORT, "hosts", "/dev/null", "--daemon=known"],
        [*EXPORT, "hosts", "/dev/null", "--daemon=ftpd."],
        [*EXPORT, "cidr", "/dev/null", "--json"],
        [*BUILD, "x"],
        [*BUILD, "x", "y", "--today=soon"],
        [*BUILD, "x", "y", "-m", "9"],
        ["s6-accessrules-cdb-from-fs", "-m", "9", "x", "y"],
    ],
)
def test_usage(words: list[str]) -> None:
    code, stderr = said(words)
    assert code == 100 and ": usage: " in stderr


@pytest.mark.parametrize("words", [[*IMPORT, "cidr", "/"], [*EXPORT, "text", "/no/such"], [*BUILD, "/no/such", "y"]])
def test_what_cannot_be_read(words: list[str]) -> None:
    code, stderr = said(words)
    assert code == 111 and ": fatal: unable to read " in stderr


def test_what_cannot_be_written(source: Path, tmp_path: Path) -> None:
    for words in (
        [*BUILD, str(source), str(tmp_path / "no" / "such.cdb"), "--today=2025-01-01"],
        [*IMPORT, "text", str(source), str(tmp_path / "no" / "such.cdb")],
        [*IMPORT, "text", str(source), f"{tmp_path}/"],
        [*IMPORT, "text", str(source), str(tmp_path / "no" / "such")],
    ):
        code, stderr = said(words)
        assert code == 111 and ": fatal: unable to write " in stderr
    assert os.listdir(tmp_path) == ["text"]


@pytest.mark.parametrize(
    "words",
    [
        ["build", "OUT", "OUT"],
        ["import", "text", "OUT", "OUT"],
        ["import", "hosts", "other", "--deny=OUT", "OUT"],
        ["export", "text", "OUT", "OUT"],
        ["map", "OUT", "OUT"],
        ["report", "OUT", "OUT"],
    ],
)
def test_nothing_takes_the_place_of_what_it_is_made_of(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rules.svg"
    (tmp_path / "other").write_text("")
    write_cdb(str(out), [(b"ip4/0.0.0.0_0", Rule(True))])
    before = out.read_bytes()
    filled = [word.replace("OUT", str(out)).replace("other", str(tmp_path / "other")) for word in words]
    code, stderr = said(["s6-accessrules", *filled])
    assert code == 100
    assert f"{out} cannot take the place of what it is made of; " in stderr
    assert out.read_bytes() == before


def test_a_text_is_no_more_readable_than_the_rules(tmp_path: Path) -> None:
    rules, out = tmp_path / "rules.cdb", tmp_path / "rules.txt"
    write_cdb(str(rules), [(b"ip4/0.0.0.0_0", Rule(True, ((b"TOKEN", b"secret"),)))])
    assert said(["s6-accessrules", "export", "text", str(rules), str(out)]) == (0, "")
    assert out.stat().st_mode & 0o777 == 0o600


# Lists that are fetched, and several of them


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "good").write_text("# ours\n10.0.0.0/24\n10.0.1.0/24\n")
    (tmp_path / "bad").write_text("10.0.0.0/24\n10.9.9.9/8\nfoo\n")
    (tmp_path / "short").write_text("10.0.0.0/25\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "nobody").write_text("[[expect]]\nonly = []\n")
    return tmp_path


def test_bad_lines_are_left_out_only_if_that_is_asked_for(lists: Path) -> None:
    code, stderr = said([*IMPORT, "cidr", str(lists / "bad"), str(lists / "out")])
    assert code == 100 and stderr.endswith("bad: 2 lines refused\n") and not (lists / "out").exists()
    done = run([*IMPORT, "cidr", str(lists / "bad"), "--skip-bad", "--json"])
    answer = json.loads(done.stdout)
    assert [skipped["line"] for skipped in answer["skipped"]] == [2, 3] and len(answer["rules"]) == 1
    assert "warning: 2 lines left out\n" in done.stderr and ":3: left out: not an address: foo\n" in done.stderr
    done = run([*IMPORT, "cidr", str(lists / "bad"), "--skip-bad", "--mask-host-bits", "--else=deny"])
    assert done.stdout == "allow ip4 10.0.0.0/8\ndeny ip4 0.0.0.0/0\ndeny ip6 ::/0\n"
    (lists / "nginx").write_text("deny 10.0.0.0/8\nx;\ndeny 192.0.2.0/24;\n")
    done = run([*IMPORT, "nginx", str(lists / "nginx"), "--skip-bad"])
    assert (done.returncode, done.stdout) == (0, "deny ip4 192.0.2.0/24\n")
    (lists / "nginx").write_text("deny x;\n")
    assert run([*IMPORT, "nginx", str(lists / "nginx"), "--skip-bad"]).returncode == 100


def test_a_list_that_shrank_takes_nobodys_place(lists: Path) -> None:
    out = lists / "out.cdb"
    words = ["--verdict=deny", "--else=allow", "cidr"]
    assert said([*IMPORT, *words, str(lists / "good"), str(out)]) == (0, "")
    before = out.read_bytes()
    for name in ("short", "empty"):
        code, stderr = said([*IMPORT, *words, str(lists / name), str(out)])
        assert code == 111 and "of 512 IPv4 addresses that were denied are left: --force" in stderr
        assert out.read_bytes() == before
    assert said([*IMPORT, *words, "--shrink-limit=80", str(lists / "short"), str(out)]) == (0, "")
    assert said([*IMPORT, *words, "--force", str(lists / "empty"), str(out)]) == (0, "")
    out.write_text("no rules")
    code, stderr = said([*IMPORT, *words, str(lists / "good"), str(out)])
    assert code == 111 and "unable to compare the rules with those of" in stderr and out.read_text() == "no rules"


def test_nothing_is_written_that_is_not_expected(lists: Path) -> None:
    out = lists / "out.cdb"
    expect = f"--expect={lists}/nobody"
    code, stderr = said([*IMPORT, "cidr", str(lists / "good"), str(out), expect])
    assert code == 1 and "fatal: nothing is written: 1 of 1 expectation fails\n" in stderr and not out.exists()
    code, stderr = said([*IMPORT, "cidr", "--verdict=deny", str(lists / "good"), str(out), expect])
    assert code == 0 and "warning: these rules let nobody in" in stderr
    (lists / "text").write_text("allow ip4 10.0.0.0/8\n")
    code, stderr = said([*BUILD, str(lists / "text"), str(out), expect])
    assert code == 1 and stderr.endswith("nothing is written: 1 of 1 expectation fails\n")


def test_lists_over_lists(lists: Path) -> None:
    words = [*IMPORT, "cidr", str(lists / "good"), f"--then=deny:ranges:{lists}/short", "--json"]
    rules = json.loads(run(words).stdout)["rules"]
    assert [(rule["key"], rule["verdict"], rule["line"]) for rule in rules] == [
        ("ip4/10.0.0.0_24", "allow", 2),
        ("ip4/10.0.1.0_24", "allow", 3),
        ("ip4/10.0.0.0_25", "deny", 1),
    ]
    assert rules[2]["file"] == str(lists / "short") and rules[2]["note"] == f"{lists}/short:1"
    for wrong in ("--then=cidr", "--then=deny:nosuch:x", "--then=cidr:"):
        assert said([*IMPORT, "cidr", str(lists / "good"), wrong])[0] == 100


def test_audits_read_our_text_form(lists: Path) -> None:
    text = lists / "rules.txt"
    text.write_text("allow ip4 10.0.0.0/8 A=b\nallow ip4 192.0.2.0/24  # expires=2020-01-31\n")
    done = run(["s6-accessrules", "explain", str(text), "192.0.2.1"])
    assert done.stdout.splitlines()[0] == "192.0.2.1: undecided"
    assert f"warning: {text}: 1 expired rule left out\n" in done.stderr
    assert (
        json.loads(run(["s6-accessrules", "report", str(text), str(lists / "r.html"), "--json"]).stdout)["rules"] == 1
    )
    assert "rules.txt</title>" in (lists / "r.html").read_text()
    assert "ip4/10.0.0.0_8" in run(["s6-accessrules", "coverage", str(text)]).stdout
    assert "no-catch-all" in run(["s6-accessrules", "lint", str(text)]).stdout
    done = run([*EXPORT, "apache", "--drop-env", "--family=ip4", str(text)])
    assert (done.returncode, done.stdout) == (0, "Require ip 10.0.0.0/8\n")
    text.write_text("permit\n")
    code, stderr = said(["s6-accessrules", "lint", str(text)])
    assert code == 111 and "not a cdb file, and no text of rules: line 1: it does not start with allow" in stderr


def test_help_lists_the_formats() -> None:
    for words, names in ((IMPORT, READERS), (EXPORT, WRITERS)):
        listed = run([*words, "--help"]).stdout
        assert all(f"\n  {name} " in listed for name in names)
