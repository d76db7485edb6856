"""s6-ipcserver-access under Debian's s6-ipcserver, beside Debian's program of the same name."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from s6tls.accessrules.compile import compile_tree
from tests.support.commands import said
from tests.support.servers import BIN, PATH, PATIENCE, read_all
from tests.support.superservers import Connect, ipcserver

OURS, DEBIAN = f"{BIN}/s6-ipcserver-access", "/usr/bin/s6-ipcserver-access"
PROGRAM = ["env", "-0"]
ENDED = r"^s6-ipcserverd: info: end pid \d+ uid \d+ exitcode (\d+)$"

Outcome = tuple[dict[str, str], str, list[str]]
"""What prog found in its environment, the exit code, and what was said."""


def rule_set(place: Path, rules: dict[str, str]) -> Path:
    """Write a rule set, file by file, in both forms; return the directory's path (the cdb's has ``.cdb`` added)."""
    tree = place / "rules"
    for name, contents in rules.items():
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(contents)
    compile_tree(os.fsencode(f"{tree}.cdb"), os.fsencode(tree))
    return tree


def answer(connect: Connect) -> bytes:
    with connect() as client:
        return read_all(client)


def outcome(place: Path, words: Sequence[str]) -> Outcome:
    """Serve one client of our own user, root."""
    place.mkdir()
    with ipcserver(place, words, verbosity=2) as (connect, log):
        data = answer(connect)
        code = log.wait_for(ENDED)[0][1]
        lines = [re.sub(r"pid \d+", "pid N", line) for line in log.text().splitlines() if "s6-ipcserverd: " not in line]
    entries = [entry.decode() for entry in data.split(b"\0") if entry]
    env = dict(entry.partition("=")[::2] for entry in entries)
    return {name: value.replace(str(place), "PLACE") for name, value in env.items()}, code, lines


def without_rules(ours: Outcome) -> tuple[Outcome, list[str]]:
    """Take off what our lines have at their ends, and Debian's do not: the rules that decided."""
    env, code, lines = ours
    found = [re.fullmatch(r"(.* (?:allow|deny) .*) rule (\S+)", line) for line in lines]
    plain = [match[1] if match else line for match, line in zip(found, lines, strict=True)]
    return (env, code, plain), [match[2] for match in found if match]


SELF = {"uid/self/allow": "", "uid/self/env/WHO": "self"}
ROOT = {"uid/0/allow": "", "uid/0/env/WHO": "root", "uid/0/env/IPCLOCALPATH": "ruled", "uid/0/env/IPCCONNNUM": "77"}
CASES: dict[str, tuple[dict[str, str], str, str]] = {
    "self": (SELF, "-v2 RULES", "uid/self"),
    "self before number": ({**SELF, "uid/0/deny": ""}, "-v2 RULES", "uid/self"),
    "user": (ROOT, "-v2 RULES", "uid/0"),
    "user before group": ({**ROOT, "gid/self/deny": ""}, "-v2 RULES", "uid/0"),
    "own group": ({"gid/self/allow": "", "gid/0/deny": ""}, "-v1 RULES", "gid/self"),
    "group": ({"gid/0/allow": "", "uid/default/deny": ""}, "-v1 RULES", "gid/0"),
    "default": ({"uid/default/allow": "", "uid/5/deny": ""}, "-v1 RULES", "uid/default"),
    "denied": ({"uid/0/deny": ""}, "-v2 RULES", "uid/0"),
    "denied, not logged": ({"uid/0/deny": ""}, "-v1 RULES", ""),
    "no rule": ({"uid/5/allow": ""}, "-v2 RULES", "none"),
    "address rules do not count": ({"ip4/0.0.0.0_0/allow": ""}, "-v2 RULES", "none"),
    "exec": ({"uid/0/allow": "", "uid/0/exec": "env -0 -i A=instead", "uid/0/env/WHO": "root"}, "-v1 RULES", "uid/0"),
    "no environment": (ROOT, "-E RULES", "uid/0"),
    "last of -E and -e": (ROOT, "-E -e RULES", "uid/0"),
    "name": (ROOT, "-v0 -l here RULES", ""),
    "empty name": (ROOT, "-v0 -l '' RULES", ""),
}
WITHOUT_RULES = {"none": "-v1", "none, warning": "-v2", "none, name": "-l here", "none, bare": "-E"}


@pytest.mark.parametrize("form", ["-i", "-x"])
@pytest.mark.parametrize(("rules", "options", "decided"), CASES.values(), ids=CASES)
def test_it_agrees_with_debian(rules: dict[str, str], options: str, decided: str, form: str, tmp_path: Path) -> None:
    tree = rule_set(tmp_path, rules)
    given = [word.strip("'") for word in options.replace("RULES", "").split()]
    named = [form, str(tree) if form == "-i" else f"{tree}.cdb"]
    ours, named_rules = without_rules(outcome(tmp_path / "ours", [OURS, *given, *named, *PROGRAM]))
    assert ours == outcome(tmp_path / "debian", [DEBIAN, *given, *named, *PROGRAM])
    assert named_rules == ([decided] if decided else [])


@pytest.mark.parametrize("options", WITHOUT_RULES.values(), ids=WITHOUT_RULES)
def test_it_agrees_with_debian_without_rules(options: str, tmp_path: Path) -> None:
    words = [*options.split(), *PROGRAM]
    ours, named_rules = without_rules(outcome(tmp_path / "ours", [OURS, *words]))
    assert ours == outcome(tmp_path / "debian", [DEBIAN, *words])
    assert set(named_rules) == {"none"}


@pytest.mark.parametrize("order", ["-i -x", "-x -i"])
def test_of_two_rule_sets_the_last_counts_as_in_debian(order: str, tmp_path: Path) -> None:
    """The directory allows root, the cdb file denies it."""
    (tmp_path / "cdb").mkdir()
    files = {"-i": str(rule_set(tmp_path, ROOT)), "-x": f"{rule_set(tmp_path / 'cdb', {'uid/0/deny': ''})}.cdb"}
    named = [word for form in order.split() for word in (form, files[form])]
    ours, _ = without_rules(outcome(tmp_path / "ours", [OURS, *named, *PROGRAM]))
    assert ours == outcome(tmp_path / "debian", [DEBIAN, *named, *PROGRAM])
    assert bool(ours[0]) == (order == "-x -i")


def test_what_is_said(tmp_path: Path) -> None:
    tree = str(rule_set(tmp_path, {"uid/7/allow": "", "gid/8/deny": ""}))
    name = "s6-ipcserver-access"

    def saying(uid: int, gid: int, *options: str) -> tuple[int, str]:
        env = {"PROTO": "IPC", "IPCREMOTEEUID": str(uid), "IPCREMOTEEGID": str(gid)}
        code, stderr = said([name, "-l", "here", *options, "true"], env)
        return code, re.sub(r"pid \d+", "pid N", stderr)

    assert saying(7, 8, "-i", tree) == (0, f"{name}: info: allow pid N uid 7 gid 8 rule uid/7\n")
    assert saying(7, 8, "-v0", "-i", tree) == (0, "")
    assert saying(6, 8, "-i", tree) == (1, "")
    denied = f"{name}: info: deny pid N uid 6 gid"
    assert saying(6, 8, "-v2", "-i", tree) == (1, f"{denied} 8: Permission denied rule gid/8\n")
    assert saying(6, 9, "-v2", "-i", tree) == (1, f"{denied} 9: No such file or directory rule none\n")
    assert saying(7, 8, "-v2")[1].startswith(f"{name}: warning: invoked without a ruleset!\n")


def test_clients_of_several_users(tmp_path: Path) -> None:
    """Each client is known by the ids that the kernel tells, whatever it says."""
    tree = rule_set(tmp_path, {"uid/0/allow": "", "uid/1001/deny": "", "gid/1002/allow": "", "gid/1002/env/A": "b"})
    tmp_path.chmod(0o755)
    for directory in tmp_path.parents[:-1]:
        if directory.owner() == "root" and directory.stat().st_mode & 0o055 == 0:
            directory.chmod(0o755)
    prog = ["sh", "-c", 'echo "$IPCREMOTEEUID $A"']
    with ipcserver(tmp_path, [OURS, "-v2", "-i", str(tree), *prog], verbosity=2) as (_, log):
        (tmp_path / "socket").chmod(0o777)

        def ask(uid: int, gid: int) -> bytes:
            words = ["s6-ipcclient", str(tmp_path / "socket"), "sh", "-c", "cat <&6"]
            done = subprocess.run(
                words, env={"PATH": PATH}, user=uid, group=gid, extra_groups=[], capture_output=True, timeout=PATIENCE
            )
            return done.stdout

        assert ask(0, 0) == b"0 \n"
        assert ask(1003, 1002) == b"1003 b\n"
        assert ask(1001, 1002) == b""
        log.wait_for(r"deny pid \d+ uid 1001 gid 1002: Permission denied rule uid/1001$")
        assert ask(1003, 1003) == b""
        log.wait_for(r"deny pid \d+ uid 1003 gid 1003: No such file or directory rule none$")


def test_a_limit_for_each_user(tmp_path: Path) -> None:
    rules = {"uid/self/allow": "", "uid/self/env/IPCCONNMAX": "2"}
    words = [OURS, "-i", str(rule_set(tmp_path, rules)), f"{BIN}/s6-connlimit", "cat"]
    with ipcserver(tmp_path, words) as (connect, log), connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert answer(connect) == b""
        log.wait_for(r"^s6-connlimit: fatal: number of connections from this client limited to 2$")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PROTO": None}, "PROTO not set"),
        ({"IPCREMOTEEUID": None}, "IPCREMOTEEUID not set"),
        ({"IPCREMOTEEGID": None}, "IPCREMOTEEGID not set"),
        ({"IPCREMOTEEUID": "x"}, "invalid $IPCREMOTEEUID"),
        ({"IPCREMOTEEGID": "-1"}, "invalid $IPCREMOTEEGID"),
        ({"PROTO": "UNIX"}, "UNIXREMOTEEUID not set"),
    ],
    ids=str,
)
def test_outside_of_a_server_it_is_100_as_debians(change: dict[str, str | None], message: str) -> None:
    full = {"PROTO": "IPC", "IPCREMOTEEUID": "0", "IPCREMOTEEGID": "0", "PATH": PATH, **change}
    env = {name: value for name, value in full.items() if value is not None}
    for program in (OURS, DEBIAN):
        done = subprocess.run([program, "true"], env=env, capture_output=True, text=True, timeout=PATIENCE)
        assert (done.returncode, done.stderr) == (100, f"s6-ipcserver-access: fatal: {message}\n")


def test_a_broken_rule_set_is_111_and_never_an_allow(tmp_path: Path) -> None:
    tree = rule_set(tmp_path, {"uid/default/allow": ""})
    os.truncate(f"{tree}.cdb", 100)
    for named in (["-x", f"{tree}.cdb"], ["-x", "nofile"], ["-i", "/etc/passwd"]):
        env, code, lines = outcome(tmp_path / f"{named[0]}{len(named[1])}", [OURS, *named, *PROGRAM])
        assert (env, code) == ({}, "111")
        assert lines[0].startswith(f"s6-ipcserver-access: fatal: unable to check rules in {named[1]}: ")


def test_without_a_socket_it_is_111_and_nobody_is_said_to_be_allowed() -> None:
    env = {"PROTO": "IPC", "IPCREMOTEEUID": "0", "IPCREMOTEEGID": "0"}
    message = "s6-ipcserver-access: fatal: unable to ipc_local: Socket operation on non-socket\n"
    assert said(["s6-ipcserver-access", "true"], env) == (111, message)
    assert said(["s6-ipcserver-access", "-v0", "-E", "true"], env) == (0, "")


def test_a_path_is_cut_at_99_bytes(tmp_path: Path) -> None:
    name = str(tmp_path / "s")
    path = name + "x" * (107 - len(name))
    env = {"PATH": PATH, "PROTO": "IPC", "IPCREMOTEEUID": "0", "IPCREMOTEEGID": "0"}
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        with listener.accept()[0] as accepted:
            words = [OURS, "-v0", "sh", "-c", "echo $IPCLOCALPATH"]
            done = subprocess.run(
                words, env=env, stdin=accepted.fileno(), stdout=subprocess.PIPE, text=True, timeout=PATIENCE
            )
    assert done.stdout == path[:99] + "\n"
