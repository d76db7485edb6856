"""Completion in a real bash and a real zsh, from what tools/completions makes of the tables in docs/."""

from __future__ import annotations

import importlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s6tls.cli import s6_accessrules
from s6tls.cli.frame.options import Synopsis
from tests.support.servers import BIN, PATIENCE

ROOT = Path(__file__).parents[3]
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
ALWAYS = {"--help", "--version"}
"""Options that stand in no table of a parser."""
BASHRC = "PS1='READY> '\nfor file in {share}/bash-completion/completions/*; do . $file; done\n"
ZSHRC = """PS1='READY> '
fpath=({share}/zsh/site-functions $fpath)
autoload -U compinit && compinit -D -u
unset zle_bracketed_paste
"""
# What bash would offer for each command line, of which each line is one; the last word is the one to be completed.
ASK = r"""
for file in "$1"/bash-completion/completions/*; do . "$file"; done
while read -r -a COMP_WORDS; do
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    function=$(complete -p "${COMP_WORDS[0]}"); function=${function##*-F }
    "${function% *}" 2>/dev/null
    echo "${COMPREPLY[@]}"
done
"""


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("share")
    subprocess.run([sys.executable, str(ROOT / "tools/completions"), str(place)], check=True)
    return place


class Terminal:
    """A shell on a terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def shows(self, pattern: str, typed: str = "") -> None:
        """Type, and wait until what is seen since then matches."""
        os.write(self._fd, typed.encode())
        seen, end = "", time.monotonic() + PATIENCE
        while not re.search(pattern, seen):
            assert select.select([self._fd], [], [], max(0.0, end - time.monotonic()))[0], seen
            seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self._fd, 4096).decode())


@contextmanager
def terminal(place: Path, share: Path, shell: str) -> Iterator[Terminal]:
    (place / ".zshrc").write_text(ZSHRC.format(share=share))
    (place / "bashrc").write_text(BASHRC.format(share=share))
    words = ["bash", "--rcfile", str(place / "bashrc"), "-i"] if shell == "bash" else ["zsh", "-i"]
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm", "HOME": str(place), "INPUTRC": "/dev/null"}
    master, slave = pty.openpty()
    process = subprocess.Popen(words, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        yield Terminal(master)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        os.close(master)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_options_their_words_programs_and_subcommands(
    shell: str, tmp_path: Path, share: Path
) -> None:
    with terminal(tmp_path, share, shell) as at:
        at.shows("READY> ")
        at.shows("lation=", "s6-tlsserver --iso\t")
        at.shows("worker ", "w\t")
        at.shows("uidgid ", "127.0.0.1 443 s6-envu\t")
        at.shows("lint ", "\x15s6-accessrules li\t")
        at.shows("severity=", "--sev\t")
        at.shows("warning ", "w\t")


def flags(synopsis: Synopsis) -> set[str]:
    letters = {f"-{option.letter}" for option in synopsis.options if option.letter}
    long = {f"--{name}{'=' if option.value else ''}" for option in synopsis.options for name in option.long}
    return letters | long


def test_bash_offers_just_the_options_that_there_are(share: Path) -> None:
    lines = {
        f"{name} -": flags(importlib.import_module(f"s6tls.cli.{to.partition(':')[2]}").SYNOPSIS)
        for name, to in SCRIPTS.items()
        if name != "s6-accessrules"
    }
    lines |= {
        f"s6-accessrules {name} -": flags(s6_accessrules.subcommand(name).SYNOPSIS)
        for name, _ in s6_accessrules.COMMANDS
    }
    lines["s6-tlsd -v 1 --tls-min = 1"] = {"1.2", "1.3"}
    lines["s6-tcpserver -c 5 127.0.0.1 80 -"] = set()
    lines["s6-accessrules x"] = set()
    asked = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", str(share)], input=asked, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    for line, offered in zip(lines, done.stdout.splitlines(), strict=True):
        assert set(offered.split()) - ALWAYS == lines[line], line


def test_zsh_knows_each_command_and_each_option(share: Path) -> None:
    text = (share / "zsh/site-functions/_s6tls").read_text()
    assert set(text.partition("\n")[0].split()[1:]) == SCRIPTS.keys()
    for name, to in SCRIPTS.items():
        body = re.findall(rf"^_{re.sub('-', '_', name)}\(\) \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)[0]
        for flag in flags(importlib.import_module(f"s6tls.cli.{to.partition(':')[2]}").SYNOPSIS):
            assert f"){flag}" in body, (name, flag)
