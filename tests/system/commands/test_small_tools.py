"""s6-envdir, s6-envuidgid and s6-connlimit beside Debian's programs of the same names: one table of cases for both.

Where the two are to differ, the table says what ours does and why.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.commands import UCSPI, said
from tests.support.servers import BIN, PATH, PATIENCE

DEBIAN, OURS = "/usr/bin", BIN
OLD = {"PATH": "/usr/bin:/bin", "UID": "u", "GID": "g", "GIDLIST": "l", "OLD": "old"}
"""What each case starts with; nothing of it is what a case would set."""

Outcome = tuple[int, list[bytes]]


def outcome(place: str, words: Sequence[str], cwd: Path, env: Mapping[str, str] = OLD) -> Outcome:
    """Run a tool with ``env`` for a program; return its exit code and the environment that ``env`` found."""
    done = subprocess.run(
        [f"{place}/{words[0]}", *words[1:], "env", "-0"], env=env, cwd=cwd, capture_output=True, timeout=PATIENCE
    )
    assert bool(done.stderr) == bool(done.returncode), done.stderr
    return done.returncode, sorted(filter(None, done.stdout.split(b"\0")))


def changes(found: Outcome) -> tuple[int, dict[str, str | None]]:
    """Return the exit code, and what became different from OLD (None for what is gone)."""
    code, environment = found
    if code:
        assert environment == []
        return code, {}
    now = dict(entry.decode().partition("=")[::2] for entry in environment)
    gone: dict[str, str | None] = dict.fromkeys(OLD.keys() - now.keys())
    return code, {**gone, **{name: value for name, value in now.items() if OLD.get(name) != value}}


# s6-envdir

FILES = {
    "LINE": b"one\ntwo\n",
    "BLANKS": b"one \t\r \n",
    "ONLY_BLANKS": b" \t\n",
    "RETURN": b"one\r\n",
    "EMPTY_LINE": b"\n",
    "OLD": b"",
    "NULS": b"a\0b\0\n\0",
    "TWO_NEWLINES": b"one\n\n",
    "HIGH": b"\xff\xfe=\n",
    "LONG_4094": b"x" * 4094 + b"\n",
    "LONG_4095": b"x" * 4095 + b"\ny",
    "LONG_5000": b"x" * 5000 + b"\n",
    "PATH": b"/nowhere\n",
    ".hidden": b"x\n",
    "A=B": b"x\n",
}
UNFINISHED = {"UNFINISHED": b"one", "UNFINISHED_NULS": b"\0\0", "UNFINISHED_LONG": b"x" * 5000}
"""Files without a final newline, of which the C release's -L makes empty values (without -f); -L here reads them."""


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories to apply: usual ones, and some that are refused."""
    place = tmp_path_factory.mktemp("envdirs")
    for name, files in {"usual": FILES, "all": {**FILES, **UNFINISHED}, "unfinished": UNFINISHED, "empty": {}}.items():
        (place / name).mkdir()
        for file, contents in files.items():
            (place / name / file).write_bytes(contents)
    (place / "nested" / "inner").mkdir(parents=True)
    (place / "file").touch()
    (place / "dangling").mkdir()
    (place / "dangling" / "LINK").symlink_to("nowhere")
    return place


@pytest.mark.parametrize(
    "words",
    [
        *(f"{options} all" for options in ("", "-n", "-f", "-fn", "-Lf", "-Lfn", "-cX", "-fcXY")),
        *(f"{options} all" for options in ("-I", "-Ii", "-iI", "--")),
        *(f"{options} usual" for options in ("-L", "-Ln")),
        *("none", "-I none", "-iI none", "-Ii none", "file", "-I file", "nested", "-I nested", "empty", "-x all"),
        *("dangling", "-I dangling", "-I none/none"),
    ],
)
def test_envdir_agrees_with_debian(words: str, directories: Path) -> None:
    line = ["s6-envdir", *words.split()]
    assert outcome(OURS, line, directories) == outcome(DEBIAN, line, directories)


@pytest.mark.parametrize("line", [["s6-envdir", "-c", "", "all"], ["s6-envdir", ""], ["s6-envdir"]])
def test_envdir_agrees_with_debian_about_what_is_empty(line: list[str], directories: Path) -> None:
    assert outcome(OURS, line, directories) == outcome(DEBIAN, line, directories)


def test_envdir_reads_an_unfinished_line_with_l_too(directories: Path) -> None:
    code, found = changes(outcome(OURS, ["s6-envdir", "-L", "unfinished"], directories))
    assert (code, found) == (
        0,
        {"UNFINISHED": "one", "UNFINISHED_NULS": "\n\n", "UNFINISHED_LONG": "x" * 5000},
    )
    _, debian = changes(outcome(DEBIAN, ["s6-envdir", "-L", "unfinished"], directories))
    assert set(debian.values()) == {""}


def test_envdir_says_what_it_cannot_do(directories: Path) -> None:
    message = "s6-envdir: fatal: unable to envdir {}: {}\n"
    for name, reason in {"none": "No such file or directory", "file": "Not a directory"}.items():
        path = str(directories / name)
        assert said(["s6-envdir", path, "true"]) == (111, message.format(path, reason))
    path = str(directories / "nested")
    assert said(["s6-envdir", path, "true"]) == (111, message.format(path, "Is a directory"))


def test_envdir_searches_the_program_on_the_path_that_it_was_started_with(directories: Path) -> None:
    assert said(["s6-envdir", str(directories / "usual"), "true"]) == (0, "")


# s6-envuidgid

AGREED = [
    *("root", "nobody", "games", "member", "nosuch", "daemon:games", ":", "1234", "-1"),
    *("-u games", "-u nosuch", "-u 5", "-nu 5", "-nu nosuch", "-nu games"),
    *("-g games", "-g nosuch", "-g 60", "-ng 60", "-ng nosuch", "-ng games"),
    *("-B daemon:games", "-B daemon", "-B daemon:", "-B :games", "-B :", "-B nosuch:games", "-B daemon:nosuch"),
    *("-B 1:2", "-nB 1:2", "-nB daemon:2", "-nB 1:games", "-nB 1", "-nB :2", "-nB x:2", "-nB 1:x"),
    *("-ug games", "-gu games", "-uB daemon:games", "-Bu games", "-uu games"),
    *("-D 5 nosuch", "-D 5:6 nosuch", "-D 5:6:7,8 nosuch", "-D 5:6:7,,8, nosuch", "-D :6 nosuch", "-D : nosuch"),
    *("-D 5:6:7 games", "-D x nosuch", "-D 5:x nosuch", "-D 5:6:x nosuch", "-D 4294967296 nosuch"),
    *("-uD 5:6:7 nosuch", "-gD 5:6:7 nosuch", "-BD 5:6:7 nosuch:games", "-BD 5:6:7 games:nosuch", "-BD 5:6:7 x:x"),
    *("-BD 5:6:7 games", "-BD 5:6:7 :games", "-BD 5:6:7 :", "-nBD 5:6:7 1:2", "-nuD 5:6:7 x"),
    *("-iD 5:6 nosuch", "-D 5:6 -i nosuch", "-x games"),
]


@pytest.fixture(scope="module")
def member() -> str:
    """The name of a user who is in a group besides its own, if this machine has one; else of any user."""
    several = [user for user in pwd.getpwall() if len(os.getgrouplist(user.pw_name, user.pw_gid)) > 1]
    return (several or pwd.getpwall())[0].pw_name


@pytest.mark.parametrize("words", AGREED)
def test_envuidgid_agrees_with_debian(words: str, member: str, tmp_path: Path) -> None:
    line = ["s6-envuidgid", *words.replace("member", member).split()]
    assert outcome(OURS, line, tmp_path) == outcome(DEBIAN, line, tmp_path)


@pytest.mark.parametrize("line", [["-B", ""], ["-n", ""], [""], ["-u", ""], ["-BD", "5:6", ""], ["-D", "", "x"]])
def test_envuidgid_agrees_with_debian_about_what_is_empty(line: list[str], tmp_path: Path) -> None:
    line = ["s6-envuidgid", *line]
    assert outcome(OURS, line, tmp_path) == outcome(DEBIAN, line, tmp_path)


# With -n the C release does as with -nB, whoever is asked for: it gives the group 0 to a known user, and leaves the
# GIDLIST of somebody else in place.  Its page, and ours, have -n only for accounts that nobody has.
KNOWN_FIRST: dict[str, tuple[int, dict[str, str | None]]] = {
    "-n games": (0, {"UID": "5", "GID": "60", "GIDLIST": ""}),
    "-nD 5:6:7 games": (0, {"UID": "5", "GID": "60", "GIDLIST": ""}),
    "-n 1234": (0, {"UID": "1234", "GID": "0", "GIDLIST": ""}),
    "-n 12:34": (0, {"UID": "12", "GID": "34", "GIDLIST": ""}),
    "-n daemon:34": (0, {"UID": "1", "GID": "34", "GIDLIST": ""}),
    "-n :games": (0, {"UID": "0", "GID": "60", "GIDLIST": ""}),
    "-n 12:34:56,57": (0, {"UID": "12", "GID": "34", "GIDLIST": "56,57"}),
    "-nD 5:6:7 1234": (0, {"UID": "1234", "GID": "6", "GIDLIST": "7"}),
    "-nD 5:6:7 nosuch": (0, {"UID": "5", "GID": "6", "GIDLIST": "7"}),
}
# The C release reads the digits that a text begins with, and 2^32-1, which setuid takes for "no change".
STRICT: dict[str, tuple[int, dict[str, str | None]]] = {
    "-nu 12:34": (1, {}),
    "-ng 12x": (1, {}),
    "-nB 12:34:56": (1, {}),
    "-n 12:34:x": (1, {}),
    "-nu 4294967295": (1, {}),
    "-nu 4294967296": (1, {}),
    "-D 4294967295 nosuch": (100, {}),
}


@pytest.mark.parametrize(("words", "ours"), [*KNOWN_FIRST.items(), *STRICT.items()])
def test_envuidgid_differs_on_purpose(words: str, ours: tuple[int, dict[str, str | None]], tmp_path: Path) -> None:
    line = ["s6-envuidgid", *words.split()]
    found = outcome(OURS, line, tmp_path)
    assert changes(found) == ours
    assert outcome(DEBIAN, line, tmp_path) != found


def test_envuidgid_says_who_is_unknown() -> None:
    assert said(["s6-envuidgid", "nosuch", "true"]) == (1, "s6-envuidgid: fatal: unknown user: nosuch\n")
    assert said(["s6-envuidgid", "-g", "nosuch", "true"]) == (1, "s6-envuidgid: fatal: unknown group: nosuch\n")


def test_what_envuidgid_sets_applyuidgid_takes() -> None:
    words = [
        "s6-envuidgid",
        "-n",
        "1001:1002:7,8",
        f"{BIN}/s6-applyuidgid",
        "-Uz",
        "sh",
        "-c",
        "echo $(id -u) $(id -G)",
    ]
    done = subprocess.run([f"{BIN}/{words[0]}", *words[1:]], env={"PATH": PATH}, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, b"1001 1002 7 8\n")


# s6-connlimit


@pytest.mark.parametrize(
    "env",
    [
        {"TCPCONNNUM": "0", "TCPCONNMAX": "1"},
        {"TCPCONNNUM": "2", "TCPCONNMAX": "1"},
        {"TCPCONNNUM": "x", "TCPCONNMAX": "1"},
        {"TCPCONNNUM": "1", "TCPCONNMAX": "x"},
        {"TCPCONNNUM": "1", "TCPCONNMAX": ""},
        {"TCPCONNMAX": "1"},
        {"TCPCONNNUM": "1"},
    ],
    ids=str,
)
def test_connlimit_agrees_with_debian(env: dict[str, str], tmp_path: Path) -> None:
    full = {"PATH": PATH, "PROTO": "TCP", **env}
    assert outcome(OURS, ["s6-connlimit"], tmp_path, full) == outcome(DEBIAN, ["s6-connlimit"], tmp_path, full)


def test_connlimit_refuses_at_the_limit_as_its_page_says(tmp_path: Path) -> None:
    env = {"PATH": PATH, **UCSPI, "TCPCONNNUM": "1", "TCPCONNMAX": "1"}
    assert outcome(OURS, ["s6-connlimit"], tmp_path, env)[0] == 1
    assert outcome(DEBIAN, ["s6-connlimit"], tmp_path, env)[0] == 0
