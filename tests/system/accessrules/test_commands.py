"""s6-accessrules-cdb-from-fs and s6-accessrules-fs-from-cdb as a shell sees them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from s6tls.accessrules import RuleSet, Verdict

BIN = os.path.dirname(sys.executable)
COMPILE = os.path.join(BIN, "s6-accessrules-cdb-from-fs")
DECOMPILE = os.path.join(BIN, "s6-accessrules-fs-from-cdb")


def run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=60)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for rule, verdict in {"ip4/10.0.0.0_8": "allow", "ip4/10.1.0.0_16": "deny", "reversedns/@": "allow"}.items():
        (tmp_path / "rules" / rule).mkdir(parents=True)
        (tmp_path / "rules" / rule / verdict).touch()
    return tmp_path


def test_there_and_back(place: Path) -> None:
    done = run(place, COMPILE, "-m", "640", "cdb", "rules")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (place / "cdb").stat().st_mode & 0o7777 == 0o640
    done = run(place, DECOMPILE, "out", "cdb")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(p.relative_to(place / "out") for p in (place / "out").rglob("*")) == sorted(
        p.relative_to(place / "rules") for p in (place / "rules").rglob("*")
    )
    with RuleSet.open(os.fsencode(place / "cdb")) as rules:
        assert rules.check_address("10.1.0.1").verdict is Verdict.DENY


@pytest.mark.parametrize(
    "words",
    [
        (COMPILE,),
        (COMPILE, "cdb"),
        (COMPILE, "-z", "cdb", "rules"),
        (COMPILE, "-m"),
        (COMPILE, "-m", "", "cdb", "rules"),
        (COMPILE, "-m", "9", "cdb", "rules"),
        (COMPILE, "-m", "-600", "cdb", "rules"),
        (COMPILE, "-m", "0o600", "cdb", "rules"),
        (COMPILE, "-m", "6_0", "cdb", "rules"),
        (COMPILE, "-m", "10000", "cdb", "rules"),
        (COMPILE, "--strict=yes", "cdb", "rules"),
        (DECOMPILE,),
        (DECOMPILE, "out"),
        (DECOMPILE, "-x", "out", "cdb"),
    ],
)
def test_wrong_usage_is_100(place: Path, words: tuple[str, ...]) -> None:
    done = run(place, *words)
    assert done.returncode == 100
    assert done.stderr.startswith(os.path.basename(words[0]) + ": ")
    assert done.stderr.count("\n") == 1
    assert os.listdir(place) == ["rules"]


def test_too_large_an_environment_is_100(place: Path) -> None:
    env = place / "rules/ip4/10.0.0.0_8/env"
    env.mkdir()
    (env / "A").write_text("v" * 4095)
    done = run(place, COMPILE, "cdb", "rules")
    message = "ip4/10.0.0.0_8: environment takes 4098 bytes, more than 4096"
    assert (done.returncode, done.stderr) == (100, f"s6-accessrules-cdb-from-fs: fatal: {message}\n")
    assert os.listdir(place) == ["rules"]


def test_a_long_exec_is_a_warning(place: Path) -> None:
    (place / "rules/ip4/10.0.0.0_8/exec").write_text("x" * 4096)
    done = run(place, COMPILE, "cdb", "rules")
    assert done.returncode == 0
    assert done.stderr.startswith("s6-accessrules-cdb-from-fs: warning: exec of ip4/10.0.0.0_8 ")


def test_system_errors_are_111(place: Path) -> None:
    assert "No such file" in run(place, COMPILE, "cdb", "nowhere").stderr
    assert run(place, COMPILE, "nowhere/cdb", "rules").returncode == 111
    (place / "rules/str\nay").touch()
    done = run(place, COMPILE, "cdb", "rules")
    message = "unable to open directory str\\x0aay: Not a directory"
    assert (done.returncode, done.stderr) == (111, f"s6-accessrules-cdb-from-fs: fatal: {message}\n")
    done = run(place, DECOMPILE, "out", "cdb")
    message = "unable to decompile cdb: No such file or directory"
    assert (done.returncode, done.stderr) == (111, f"s6-accessrules-fs-from-cdb: fatal: {message}\n")
    (place / "cdb").write_bytes(b"x" * 3000)
    done = run(place, DECOMPILE, "out", "cdb")
    message = "unable to decompile cdb: not a cdb file: a hash table is out of bounds"
    assert (done.returncode, done.stderr) == (111, f"s6-accessrules-fs-from-cdb: fatal: {message}\n")
    assert sorted(os.listdir(place)) == ["cdb", "rules"]


def test_a_full_disk_leaves_the_old_file(place: Path) -> None:
    (place / "cdb").write_text("old")
    limited = "import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); os.execv(sys.argv[1], sys.argv[1:])"
    done = run(place, sys.executable, "-c", limited, COMPILE, "cdb", "rules")
    message = "unable to write cdb: File too large"
    assert (done.returncode, done.stderr) == (111, f"s6-accessrules-cdb-from-fs: fatal: {message}\n")
    assert sorted(os.listdir(place)) == ["cdb", "rules"]
    assert (place / "cdb").read_text() == "old"


def test_strict(place: Path) -> None:
    assert run(place, COMPILE, "--strict", "cdb", "rules").returncode == 0
    (place / "cdb").unlink()
    (place / "rules/ip4/10.0.0.1_8").mkdir()
    (place / "rules/ip4/10.0.0.1_8/deny").touch()
    done = run(place, COMPILE, "--strict", "cdb", "rules")
    assert done.returncode == 100
    assert done.stderr.splitlines() == [
        "s6-accessrules-cdb-from-fs: error: ip4/10.0.0.1_8: can never match: bits are set beyond the prefix "
        "(write it as 10.0.0.0_8)",
        "s6-accessrules-cdb-from-fs: fatal: rule set has 1 problem",
    ]
    assert os.listdir(place) == ["rules"]
    assert run(place, COMPILE, "cdb", "rules").returncode == 0


# Runs a program so that it kills itself with a signal when it comes to a certain rule: no race, no sleep.
KILLER = """
import os, sys
number, module, *sys.argv = sys.argv[1:]
import importlib
program = importlib.import_module("s6tls.cli." + module)
from s6tls.accessrules.deferred_signals import DeferredSignals
checkpoint, count = DeferredSignals.checkpoint, iter(range(9))
def checkpoint_with_signal(self):
    if next(count) == 1:
        os.kill(os.getpid(), int(number))
    checkpoint(self)
DeferredSignals.checkpoint = checkpoint_with_signal
program.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_kills_but_leaves_nothing_behind(place: Path, number: signal.Signals) -> None:
    assert run(place, COMPILE, "cdb", "rules").returncode == 0
    old = (place / "cdb").read_bytes()
    (place / "rules/ip4/10.1.0.0_16/allow").touch()
    for module, words in (
        ("s6_accessrules_cdb_from_fs", ("s6-accessrules-cdb-from-fs", "cdb", "rules")),
        ("s6_accessrules_fs_from_cdb", ("s6-accessrules-fs-from-cdb", "out", "cdb")),
    ):
        done = run(place, sys.executable, "-c", KILLER, str(int(number)), module, *words)
        assert done.returncode == -number, done.stderr
        assert sorted(os.listdir(place)) == ["cdb", "rules"]
        assert (place / "cdb").read_bytes() == old


def test_an_ignored_signal_stays_ignored(place: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + KILLER
    words = (str(int(signal.SIGHUP)), "s6_accessrules_cdb_from_fs", "s6-accessrules-cdb-from-fs", "cdb", "rules")
    assert run(place, sys.executable, "-c", ignoring, *words).returncode == 0


def test_help(place: Path) -> None:
    for program, option in ((COMPILE, "--strict"), (DECOMPILE, "dir cdbfile")):
        done = run(place, program, "--help")
        assert done.returncode == 0
        assert option in done.stdout
