"""The pages for what people want to do: their commands run as they stand, and print what the pages say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support.servers import PATH

ROOT = Path(__file__).parents[3]
COMMAND = re.compile(r"^    \$ ((?:.*\\\n)*.*)\n((?:    (?!\$ ).*\n)*)", re.MULTILINE)
# Accounts and files come into an /etc of our own, and port 443 is one of a network of our own.
APART = """
set -e
cp -a /etc/. "$1"
mount --bind "$1" /etc
ip link set lo up
set +e -m
. "$2"
"""
# After a server is started in the background: wait until it says that it serves.
STARTED = "until grep -qs 'info: starting' *.log; do sleep 0.05; done"


def script_of(page: str) -> tuple[str, list[tuple[str, str]]]:
    """Make a script of a page's commands that says which of them it is at, and return what each is to print."""
    examples = [(command, re.sub("^    ", "", shown, flags=re.MULTILINE)) for command, shown in COMMAND.findall(page)]
    lines = []
    for number, (command, _) in enumerate(examples):
        lines += [f"echo '@{number}'", command]
        if command.endswith(" &"):
            lines.append(STARTED)
    return "\n".join(lines) + "\n", examples


def check(output: str, examples: list[tuple[str, str]]) -> None:
    said = dict(re.findall(r"^@(\d+)\n((?:(?!@\d+$).*\n)*)", output, re.MULTILINE))
    for number, (command, shown) in enumerate(examples):
        assert said[str(number)] == shown, command


def test_getting_started(tmp_path: Path) -> None:
    script, examples = script_of((ROOT / "docs/getting-started.md").read_text())
    (tmp_path / "script").write_text(script)
    (tmp_path / "etc").mkdir()
    words = ["unshare", "--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-c", APART]
    words += ["bash", str(tmp_path / "etc"), str(tmp_path / "script")]
    env = {"PATH": f"{PATH}:/usr/sbin:/sbin"}
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert len(examples) == 21, done.stdout
    check(done.stdout, examples)


def test_moving(tmp_path: Path) -> None:
    script, examples = script_of((ROOT / "docs/moving.md").read_text())
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert examples
    check(done.stdout, examples)
