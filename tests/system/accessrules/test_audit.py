"""s6-accessrules and its subcommands as processes: words in; text, JSON and exit codes out."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.cli import s6_accessrules
from s6tls.cli.frame.options import Synopsis
from tests.support.commands import answer, run, said
from tests.support.rules import trees
from tests.support.servers import BIN, PATH, PATIENCE

every_subcommand = pytest.mark.parametrize("name", [name for name, _ in s6_accessrules.COMMANDS])
PROGRAM = "s6-accessrules"


def synopsis(name: str) -> Synopsis:
    found = s6_accessrules.subcommand(name).SYNOPSIS
    assert isinstance(found, Synopsis)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> str:
    rules = {b"ip4/192.0.2.0_24": Rule(True, ((b"ROLE", b"staff"),)), b"ip4/0.0.0.0_0": Rule(False)}
    trees.write_tree(os.fsencode(tmp_path / "rules"), rules)
    return str(tmp_path / "rules")


def test_help_lists_the_subcommands() -> None:
    done = run([PROGRAM, "--help"])
    assert done.returncode == 0
    assert all(f"  {name}" in done.stdout for name, _ in s6_accessrules.COMMANDS)


@every_subcommand
def test_help_of_a_subcommand(name: str) -> None:
    done = run([PROGRAM, name, "--help"])
    assert (done.returncode, done.stdout, done.stderr) == (0, synopsis(name).help(), "")


@every_subcommand
def test_nothing_at_all_is_wrong_usage(name: str) -> None:
    code, stderr = said([PROGRAM, name])
    assert code == 100
    missing = synopsis(name).words.split()[0].removesuffix("...")
    assert stderr == f"{PROGRAM} {name}: usage: {missing} is missing; try {PROGRAM} {name} --help\n"


@every_subcommand
def test_an_unknown_option_is_wrong_usage(name: str) -> None:
    code, stderr = said([PROGRAM, name, "x", "--nosuch", "x", "x"])
    assert code == 100
    assert stderr.startswith(f"{PROGRAM} {name}: usage: unrecognized option: --nosuch; ")


def test_rules_that_are_not_there_cannot_be_read(tmp_path: Path) -> None:
    code, stderr = said([PROGRAM, "explain", str(tmp_path / "no\nsuch"), "192.0.2.1"])
    assert code == 111
    assert stderr.startswith(f"{PROGRAM} explain: fatal: unable to read {tmp_path}/no\\x0asuch: ")
    assert stderr.count("\n") == 1


def test_an_unknown_subcommand() -> None:
    code, stderr = said([PROGRAM, "no\nsuch"])
    assert code == 100
    assert stderr.startswith(f"{PROGRAM}: usage: unknown subcommand: no\\x0asuch (expected explain, lint, ")
    assert stderr.endswith(f"; try {PROGRAM} --help\n") and stderr.count("\n") == 1


@pytest.mark.parametrize("to", ["/dev/full", "&-"])
def test_answers_that_nobody_takes(tree: str, to: str) -> None:
    command = f'exec "$0" explain "$1" 192.0.2.1 >{to}'
    done = subprocess.run(
        ["sh", "-c", command, os.path.join(BIN, PROGRAM), tree], env={"PATH": PATH}, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == (111 if to == "/dev/full" else 0)
    assert done.stderr.count("\n") == (1 if to == "/dev/full" else 0)


def test_answers_that_nobody_takes_before_a_failure(tree: str, tmp_path: Path) -> None:
    log = tmp_path / "log.gz"
    log.write_bytes(gzip.compress(b"192.0.2.1\n" + os.urandom(1000))[:-4])
    words = [os.path.join(BIN, PROGRAM), "explain", tree, f"--log={log}"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(words, env={"PATH": PATH}, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 111 and done.stderr.count("\n") == 1 and "cut short" in done.stderr


def test_an_interrupt_ends_it_without_a_word(tree: str) -> None:
    words = [os.path.join(BIN, PROGRAM), "explain", tree, "--log=-", "--format=plain"]  # to guess, it would read more
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env={"PATH": PATH}, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(b"192.0.2.1\n" * 1000)  # less than pipes hold, more than buffers do
        process.stdin.flush()
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr.read() == b""


def test_nobody_hears_what_is_said_on_stderr(tree: str) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" coverage "$1" 2>&-', os.path.join(BIN, PROGRAM), tree],
        env={"PATH": PATH},
        stdout=subprocess.PIPE,
    )
    assert done.returncode == 0 and done.stdout.startswith(b"addresses ")


def test_explain_for_people(tree: str) -> None:
    done = run([PROGRAM, "explain", tree, "192.0.2.1"])
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["192.0.2.1: allow by ip4/192.0.2.0_24", "  sets ROLE=staff"]


def test_explain_many_addresses_with_their_probes(tree: str) -> None:
    done = run([PROGRAM, "explain", "--probes", tree, "192.0.2.1", "198.51.100.1"])
    lines = done.stdout.splitlines()
    assert [line for line in lines if " probe " not in line] == [
        "192.0.2.1: allow by ip4/192.0.2.0_24",
        "  sets ROLE=staff",
        "198.51.100.1: deny by ip4/0.0.0.0_0",
    ]
    assert lines[2] == "  probe ip4/192.0.2.1_32" and lines[-1] == "  probe ip4/0.0.0.0_0"


def test_explain_for_machines(tree: str) -> None:
    done = run([PROGRAM, "explain", "--json", tree, "198.51.100.1"])
    assert (done.returncode, done.stderr) == (0, "")
    assert answer(done)["rule"] == "ip4/0.0.0.0_0"


def test_explain_what_is_no_address(tree: str) -> None:
    code, stderr = said([PROGRAM, "explain", tree, "192.0.2.01"])
    assert code == 100
    assert stderr.startswith(f"{PROGRAM} explain: usage: not an address: 192.0.2.01; ")
