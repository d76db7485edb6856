"""Log lines: whole, and never waited for."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from s6tls.ucspi.log import Log, Seldom, log, silence_warnings

LINES = """
import sys
from s6tls.ucspi.log import log
for number in range(int(sys.argv[1])):
    log("test", "info", f"line {number} " + "x" * 60)
print("done", flush=True)
sys.stdin.readline()
log("test", "info", "again")
log("test", "info", "and again")
"""
MANY = 3000


def pipe() -> tuple[int, int]:
    return os.pipe()


def socket_pair() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def read(fd: int) -> bytes:
    data = b""
    try:
        while chunk := os.read(fd, 65536):
            data += chunk
    except OSError:  # nothing is there, or nobody has the terminal open any more
        pass
    return data


def writer(stderr: int, lines: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", LINES, str(lines)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)


@pytest.mark.parametrize("make", [pipe, socket_pair, pty.openpty])
def test_a_reader_that_stands_still_costs_lines_and_no_time(make: Callable[[], tuple[int, int]]) -> None:
    reading, writing = make()
    with writer(writing, MANY) as process:
        assert process.stdin is not None and process.stdout is not None
        os.close(writing)
        assert process.stdout.readline() == b"done\n"  # though nobody has read a line
        os.set_blocking(reading, False)
        first = read(reading)
        os.set_blocking(reading, True)
        process.stdin.close()
        lines = (first + read(reading)).replace(b"\r\n", b"\n").decode().splitlines()
    os.close(reading)
    told = [int(line.split()[5]) for line in lines if line.startswith("s6tls: warning: unable to log ")]
    kept = [line for line in lines if line.startswith("test: info: line ")]
    assert len(kept) > 40
    if make is not pty.openpty:  # which cuts the last line that it takes
        assert kept == [f"test: info: line {number} " + "x" * 60 for number in range(len(kept))]
        assert told == [MANY - len(kept)] and lines[-1] == "test: info: and again"


@pytest.mark.parametrize("blocking", [True, False])
def test_nothing_is_lost_to_a_reader_that_reads(blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    with writer(writing, MANY) as process:
        os.close(writing)
        assert process.stdin is not None
        process.stdin.close()
        lines = read(reading).decode().splitlines()
    os.close(reading)
    assert len(lines) == MANY + 2 and lines[-1] == "test: info: and again"


def test_a_long_line_is_cut() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from s6tls.ucspi.log import log; log('a', 'info', 'x' * 9000); log('a', 'info', 'y')"],
        stderr=subprocess.PIPE,
    )
    first, second = done.stderr.decode().splitlines()
    assert first.endswith("xxx...") and len(first) < 4096
    assert second == "a: info: y"


JAILED = """
from s6tls.posix.jail import Jail, Level, Role
from s6tls.ucspi.log import log
Jail(Role.ENGINE, Level.BEST, "test").enter()
log("test", "info", "from the jail")
"""


@pytest.mark.parametrize("make", [pipe, socket_pair, pty.openpty])
def test_a_process_in_a_jail_can_log(make: Callable[[], tuple[int, int]]) -> None:
    """A terminal has been opened before, a pipe is written to without a question."""
    reading, writing = make()
    subprocess.run([sys.executable, "-c", JAILED], stderr=writing, check=True)
    os.set_blocking(reading, False)
    assert os.read(reading, 1000).rstrip() == b"test: info: from the jail"
    os.close(writing)
    os.close(reading)


def test_a_process_in_a_jail_can_log_to_a_file(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log:
        subprocess.run([sys.executable, "-c", JAILED], stderr=log, check=True)
    assert (tmp_path / "log").read_bytes() == b"test: info: from the jail\n"


@pytest.mark.parametrize("silenced", [False, True])
def test_warnings_can_be_silenced_but_for_who_knows_how_much_to_say(
    silenced: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    silence_warnings(silenced)
    try:
        log("test", "warning", "one")
        Seldom("test").warning("two")
        Log("test", 1).warning("three")
        log("test", "fatal", "four")
    finally:
        silence_warnings(False)
    said = [line.rpartition(" ")[2] for line in capfd.readouterr().err.splitlines()]
    assert said == (["three", "four"] if silenced else ["one", "two", "three", "four"])
