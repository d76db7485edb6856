"""Variables that are for Python programs neither break nor steer our own interpreter, and programs get them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import BIN, PATIENCE, server

COMMAND = os.path.join(BIN, "s6-applyuidgid")
INSTALLED_BY = {"install-venv": [sys.executable, "-I", COMMAND], "another installer": [sys.executable, COMMAND]}
"""How a command starts; others write no options for the interpreter at the top of its script."""

STEERING: dict[str, dict[str, str]] = {
    "modules": {"PYTHONPATH": "."},
    "warnings": {"PYTHONWARNINGS": "error"},
    "development": {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1", "PYTHONFAULTHANDLER": "1"},
    "a shell at the end": {"PYTHONINSPECT": "1", "PYTHONSTARTUP": "/nowhere"},
    "text": {"PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-16"},
    "the C locale": {"PYTHONHASHSEED": "0", "LANG": "C"},
    "nothing": {"PYTHON": "", "PYTHON:x": "1"},
}
FROM_THE_FIRST_STEP: dict[str, dict[str, str]] = {
    "noise": {"PYTHONVERBOSE": "2", "PYTHONPROFILEIMPORTTIME": "1"},
    "home": {"PYTHONHOME": "/nowhere"},
    "memory": {"PYTHONMALLOC": "no such"},
    "text": {"PYTHONIOENCODING": "no such"},
    "locale": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "warn", "LC_ALL": "C"},
}
"""What an interpreter obeys before any line of ours can run."""


def write_modules(place: Path, *names: str) -> None:
    """Put modules there that end whoever loads them."""
    for name in names:
        module = place / f"{name}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(f"import os\nos.write(2, b'steered by {name}\\n')\nos._exit(77)\n")


def passed_on(start: list[str], given: dict[str, str], place: Path) -> None:
    """Have a command run a program, and find that that gets just the variables that were given."""
    env = {"PATH": "/usr/bin:/bin", "KEYFILE:a.example": "\udcff", **given}
    words = [*start, "cat", "/proc/self/environ"]
    done = subprocess.run(words, env=env, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(done.stdout.split(b"\0")) == sorted([b"", *(os.fsencode(f"{k}={v}") for k, v in env.items())])


@pytest.mark.parametrize("installed_by", INSTALLED_BY)
@pytest.mark.parametrize("what", STEERING)
def test_a_command_is_not_steered_and_programs_are(installed_by: str, what: str, tmp_path: Path) -> None:
    write_modules(tmp_path, "ssl", "socket", "signal", "resource", "typing", "cryptography/__init__")
    passed_on(INSTALLED_BY[installed_by], STEERING[what], tmp_path)


@pytest.mark.parametrize("what", FROM_THE_FIRST_STEP)
def test_what_install_venv_installs_is_not_steered_from_its_first_step(what: str, tmp_path: Path) -> None:
    passed_on(INSTALLED_BY["install-venv"], FROM_THE_FIRST_STEP[what], tmp_path)


def test_nor_by_a_package_of_our_name_and_what_python_loads_by_itself(tmp_path: Path) -> None:
    write_modules(tmp_path, "s6tls/__init__", "re", "sitecustomize", "usercustomize", "encodings/__init__")
    passed_on(INSTALLED_BY["install-venv"], {"PYTHONPATH": "."}, tmp_path)


def test_a_server_is_not_steered_and_its_programs_are(tmp_path: Path) -> None:
    write_modules(tmp_path, "ssl", "s6tls/__init__", "OpenSSL/__init__")
    prog = ["sh", "-c", 'echo "$PYTHONPATH,$PYTHONHOME"']
    words = [sys.executable, "-I", f"{BIN}/s6-tcpserver", "127.0.0.1", "0", *prog]
    with server(words, {"PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere", "PYTHONVERBOSE": "1"}) as s:
        assert s.exchange() == f"{tmp_path},/nowhere\n".encode()
        assert s.log() == ""


def test_an_interpreter_that_cannot_be_started_again_is_one_line(tmp_path: Path) -> None:
    program = "import sys; sys.executable = '/nowhere'; from s6tls.cli import start; start.s6_tlsd_io()"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONUTF8": "1"}, capture_output=True, text=True, timeout=PATIENCE
    )
    message = "s6-tlsd-io: fatal: unable to start again: No such file or directory\n"
    assert (done.returncode, done.stderr) == (111, message)
