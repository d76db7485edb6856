"""Every command alone: help, wrong usage, and whatever else somebody may type."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import s6tls
from s6tls.cli.frame import chain
from s6tls.cli.frame.options import Synopsis
from s6tls.cli.frame.program import outcome
from tests.support.commands import COMMANDS, LINKS, OTHERS, SERVERS, run, said, synopsis
from tests.support.servers import BIN

PYPROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
SCRIPTS: set[str] = set(PYPROJECT["project"]["scripts"])

every_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda module: synopsis(module).program)
links_and_servers = pytest.mark.parametrize(
    "command", [*LINKS, *SERVERS, *OTHERS], ids=lambda module: synopsis(module).program
)


@every_command
def test_help(command: ModuleType) -> None:
    table = synopsis(command)
    done = run([table.program, "--help"])
    assert (done.returncode, done.stdout, done.stderr) == (0, table.help(), "")


@every_command
def test_version(command: ModuleType) -> None:
    table = synopsis(command)
    answer = caught(table, lambda _: 1, [b"--version"])
    assert answer == (0, f"{table.program} (s6tls) {s6tls.__version__}\n")


def test_the_package_lists_its_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "s6tls"], capture_output=True, text=True, check=True)
    listed = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert {name for name, _ in listed} == SCRIPTS
    assert not any(about.endswith(".") for _, about in listed)


@every_command
def test_help_to_nobody_is_no_traceback(command: ModuleType) -> None:
    program = os.path.join(BIN, synopsis(command).program)
    for to, code in (("&-", 0), ("/dev/full", 111)):
        done = subprocess.run(["sh", "-c", f'exec "$0" --help >{to}', program], stderr=subprocess.PIPE, text=True)
        assert done.returncode == code
        assert done.stderr.count("\n") == (1 if code else 0)
        assert "Traceback" not in done.stderr


@every_command
def test_nothing_at_all_is_wrong_usage(command: ModuleType) -> None:
    table = synopsis(command)
    code, stderr = said([table.program])
    assert code == 100
    assert re.fullmatch(rf"{table.program}: usage: .* (missing|run|subcommand); try {table.program} --help\n", stderr)


@every_command
@pytest.mark.parametrize("option", ["-~", "--nosuch", "--nosuch=x", "-\n", b"-\xff", b"--\xff\xfe", "--=", "-é"])
def test_an_unknown_option_is_wrong_usage(command: ModuleType, option: str | bytes) -> None:
    code, stderr = inside(command, [os.fsencode(option), b"x", b"x", b"x"])
    assert code == 100
    assert stderr.startswith(f"{synopsis(command).program}: usage: unrecognized option: -")
    assert stderr.isascii() and stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["s6-tcpserver", "-c", "x"],
        ["s6-tcpserver", "-C", "-1"],
        ["s6-tcpserver", "-c", "99999999999"],
        ["s6-tcpserver", "-b", ""],
        ["s6-tcpserver", "-u", "root"],
        ["s6-tcpserver", "-g", "4294967295"],
        ["s6-tcpserver", "-G", "1,x"],
        ["s6-tcpserver", "--isolation=none"],
        ["s6-tcpserver-access", "-v", "high"],
        ["s6-tcpserver-access", "-t", "-5"],
        ["s6-tcpserverd", "-v", "2x"],
        ["s6-tlsd", "-K", "1.5"],
        ["s6-tlsd", "-k", "one"],
        ["s6-tlsd", "-v", "+1"],
        ["s6-tlsserver", "-t", "x"],
        ["s6-tlsserver", "-K", "x"],
        ["s6-tlsserver", "-u", "x"],
        ["s6-tcpserver-socketbinder", "-b", "0x10"],
        ["s6-applyuidgid", "-u", "-1"],
    ],
)
def test_a_bad_value_is_wrong_usage(words: list[str]) -> None:
    code, stderr = inside(module(words[0]), [os.fsencode(word) for word in words[1:]] + [b"127.0.0.1", b"0", b"true"])
    assert code == 100
    assert re.fullmatch(r"(s6-[a-z-]+): usage: .+; try \1 --help\n", stderr)


@pytest.mark.parametrize("program", ["s6-tcpserver", "s6-tlsserver", "s6-tcpserver-socketbinder"])
@pytest.mark.parametrize(
    ("ip", "port"),
    [
        ("127.0.0.1", "65536"),
        ("127.0.0.1", "-1"),
        ("127.0.0.1", "http"),
        ("127.0.0.1", ""),
        ("127.0.0.1", "+0"),
        ("localhost", "0"),
        ("127.1", "0"),
        ("", "0"),
        ("::1%lo", "0"),
        ("[::1]", "0"),
        ("127.0.0.1\n", "0"),
    ],
)
def test_a_bad_address_or_port_is_wrong_usage(program: str, ip: str, port: str) -> None:
    code, stderr = inside(module(program), [os.fsencode(ip), os.fsencode(port), b"true"])
    assert code == 100
    assert re.match(rf"{program}: usage: invalid (IP address|value for port): ", stderr)


@pytest.mark.parametrize("program", ["s6-tcpserver", "s6-tlsserver"])
def test_an_address_of_the_other_family_is_wrong_usage(program: str) -> None:
    for option, ip in ((b"-4", b"::1"), (b"-6", b"127.0.0.1")):
        code, stderr = inside(module(program), [option, ip, b"0", b"true"])
        assert code == 100
        assert stderr.startswith(f"{program}: usage: the address is not of the family asked for: ")


def test_a_program_without_a_name_is_no_program() -> None:
    for program in ("s6-tcpserver-access", "s6-tlsd", "s6-connlimit"):
        assert said([program, ""])[0] == said([program, "--"])[0] == 100


def module(program: str) -> ModuleType:
    return next(command for command in COMMANDS if synopsis(command).program == program)


def inside(command: ModuleType, argv: list[bytes]) -> tuple[int, str]:
    """Run a command in this process as far as reading its command line; return its exit code and stderr.

    Nothing here may have a usable port after an address: that would be a server, and would serve.
    """
    table = synopsis(command)
    if command in LINKS:
        return caught(table, lambda words: len(chain.parse_link(table, command.stage, words)) and 0, argv)
    return caught(table, getattr(command, "body", None) or command_body(command), argv)


def command_body(command: ModuleType) -> Callable[[list[bytes]], int]:
    """Return the body of one of the two compilers."""
    found: Callable[[list[bytes]], int] = getattr(command, "compile_from", None) or command.decompile_from
    return found


def caught(table: Synopsis, body: Callable[[list[bytes]], int], argv: list[bytes]) -> tuple[int, str]:
    """Return the outcome of a body and what it wrote to descriptor 2."""
    memory, stdout, stderr = os.memfd_create("stderr"), os.dup(1), os.dup(2)
    os.dup2(memory, 2)
    os.dup2(memory, 1)
    try:
        code = outcome(table, body, argv)
    finally:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
    with os.fdopen(memory, "rb") as file:
        file.seek(0)
        return code, file.read().decode()


@st.composite
def garbage(draw: st.DrawFn, command: ModuleType) -> list[bytes]:
    """Words that a command might be called with: its own options, others, values, other programs, anything."""
    own = [option.flag.encode() for option in synopsis(command).options]
    others = [b"-", b"--", b"s6-tlsd", b"s6-connlimit", b"s6-applyuidgid", b"s6-tcpserver-access", b"127.0.0.1", b"::1"]
    text = (
        st.binary(max_size=8).map(lambda word: word.replace(b"\0", b"") or b"x").filter(lambda word: not word.isdigit())
    )
    word = st.sampled_from([*own, *others, b"-9", b"-v9", b"-c7", b"--sni", b"9" * 30]) | text | text.map(b"-".__add__)
    return draw(st.lists(word, max_size=8))


@links_and_servers
@given(data=st.data())
def test_no_garbage_gives_a_traceback(command: ModuleType, data: st.DataObject) -> None:
    argv = data.draw(garbage(command))
    code, stderr = inside(command, argv)
    assert code in {0, 96, 100, 111}
    if argv[:1] in ([b"--help"], [b"--version"]):
        return
    assert stderr.count("\n") == (1 if code else 0)
    assert stderr.isascii()
    assert "Error" not in stderr and "Traceback" not in stderr
    if code:
        assert re.match(r"s6-[a-z0-9-]+: (usage|fatal): ", stderr)


@every_command
def test_no_garbage_gives_a_traceback_in_real_life(command: ModuleType) -> None:
    program = synopsis(command).program
    for words in (
        [b"-\xff"],
        ["-"],
        ["--"],
        ["-v", "x"],
        ["--=", "x", "y"],
        ["x" * 100_000],
        [b"\xff\xfe", b"\xff", b"\n"],
    ):
        done = run([program, *words], env={"PROTO": "\udcff", "KEYFILE": "\udcff"})
        assert done.returncode in {1, 96, 100, 111, 126, 127}
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("s6-")
