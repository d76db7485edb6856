"""Which words of a command line are links of ours, to be run in-process, and which are programs to exec."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import UCSPI, run
from tests.support.servers import BIN, PATH


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    """A directory with programs that have the names of ours and say so."""
    for name in ("s6-applyuidgid", "s6-connlimit", "s6-tlsd", "s6-tcpserver-access"):
        (tmp_path / name).write_text('#!/bin/sh\necho "not ours: ${0##*/} $*"\n')
        (tmp_path / name).chmod(0o755)
    return str(tmp_path)


CHAIN = ["s6-tcpserver-access", "-H", "-v0", "s6-connlimit", "s6-applyuidgid", "-z", "sh", "-c", "echo $$ $PPID $UID."]


def test_links_run_in_one_process_one_after_the_other() -> None:
    done = run(CHAIN, {**UCSPI, "UID": "5"})
    _, parent, uid = done.stdout.split()
    assert (done.returncode, done.stderr, parent, uid) == (0, "", str(os.getpid()), ".")


def test_the_second_links_words_are_its_own() -> None:
    done = run(["s6-tcpserver-access", "-H", "-v0", "--", "s6-connlimit", "--", "echo", "--", "-v0"], UCSPI)
    assert (done.returncode, done.stdout) == (0, "-- -v0\n")


def test_a_wrong_option_of_a_later_link_is_reported_under_its_name() -> None:
    done = run(["s6-tcpserver-access", "-H", "-v0", "s6-applyuidgid", "-u", "x", "true"], UCSPI)
    assert done.returncode == 100
    assert done.stderr.startswith("s6-applyuidgid: usage: invalid id: x; try s6-applyuidgid --help")


def test_a_link_that_refuses_ends_the_chain() -> None:
    done = run(
        ["s6-tcpserver-access", "-H", "-v0", "s6-connlimit", "true"], {**UCSPI, "TCPCONNNUM": "1", "TCPCONNMAX": "1"}
    )
    message = "number of connections from this client limited to 1"
    assert (done.returncode, done.stderr) == (1, f"s6-connlimit: fatal: {message}\n")


def test_a_program_of_the_same_name_elsewhere_is_run_and_not_imitated(elsewhere: str) -> None:
    env = {**UCSPI, "PATH": f"{elsewhere}:{PATH}"}
    assert (
        run(["s6-tcpserver-access", "-H", "-v0", "s6-applyuidgid", "-x", "y"], env).stdout
        == "not ours: s6-applyuidgid -x y\n"
    )
    assert run(["s6-tcpserver-access", "-H", "-v0", f"{elsewhere}/s6-tlsd", "y"], env).stdout == "not ours: s6-tlsd y\n"


@pytest.mark.parametrize("program", ["s6-applyuidgid", "s6-connlimit", "s6-tcpserver-access"])
def test_a_command_is_itself_wherever_its_name_is_found(program: str, elsewhere: str) -> None:
    options = ["-H", "-v0"] if program == "s6-tcpserver-access" else []
    done = run([program, *options, "echo", "x"], {**UCSPI, "PATH": f"{elsewhere}:{PATH}"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")


def test_ours_by_its_full_name_is_ours(elsewhere: str) -> None:
    done = run(
        [f"{BIN}/s6-tcpserver-access", "-H", "-v0", f"{BIN}/s6-connlimit", "echo", "x"],
        {**UCSPI, "PATH": elsewhere + ":/bin"},
    )
    assert (done.returncode, done.stdout) == (0, "x\n")


def test_a_link_to_ours_is_ours(tmp_path: Path) -> None:
    (tmp_path / "s6-connlimit").symlink_to(f"{BIN}/s6-connlimit")
    env = {**UCSPI, "PATH": f"{tmp_path}:/bin", "TCPCONNNUM": "1", "TCPCONNMAX": "1"}
    assert run(["s6-tcpserver-access", "-H", "-v0", "s6-connlimit", "true"], env).returncode == 1


def test_the_last_link_says_that_the_program_cannot_be_run() -> None:
    done = run(["s6-tcpserver-access", "-H", "-v0", "s6-connlimit", "nowhere"], UCSPI)
    assert (done.returncode, done.stderr) == (
        127,
        "s6-connlimit: fatal: unable to exec nowhere: No such file or directory\n",
    )
    done = run(["s6-tcpserver-access", "-H", "s6-connlimit", "/etc/passwd"], UCSPI)
    allow, fatal = done.stderr.splitlines()
    assert done.returncode == 126
    assert allow.startswith("s6-tcpserver-access: info: allow pid ") and allow.endswith(" ip 192.0.2.7 rule none")
    assert fatal == "s6-connlimit: fatal: unable to exec /etc/passwd: Permission denied"


LOADS = """
import importlib, sys
importlib.import_module(sys.argv[1])
sys.exit(" ".join(name for name in sys.modules if name in sys.argv[2:]))
"""


def loaded(module: str, *names: str) -> str:
    """Return which of these modules are loaded with one of ours."""
    done = subprocess.run([sys.executable, "-c", LOADS, module, *names], stderr=subprocess.PIPE, text=True)
    return done.stderr.strip()


@pytest.mark.parametrize(
    "command",
    ["s6_tcpserver", "s6_tcpserverd", "s6_tcpserver_access", "s6_applyuidgid", "s6_envdir", "proxy_server"],
)
def test_a_command_without_tls_loads_none(command: str) -> None:
    assert loaded(f"s6tls.cli.{command}", "s6tls.tls", "s6tls.stages.tlsd", "ssl", "OpenSSL") == ""


def test_a_command_with_tls_loads_no_library_before_it_has_a_session() -> None:
    assert loaded("s6tls.cli.s6_tlsserver", "s6tls.tls", "ssl", "OpenSSL", "cryptography") == "s6tls.tls"
