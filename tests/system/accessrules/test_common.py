"""How subcommands show their answers: plain columns, or tables and progress on a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.accessrules.cdb import write_cdb
from s6tls.accessrules.text import printable
from s6tls.cli.accessrules.common import MOST_ROWS, Table, count
from tests.support.commands import run, said

SHOW = """
import sys
from s6tls.cli.accessrules.common import Table, progress
table = Table("rule", "hits", right=[1], colours={"7": "red"})
with progress() as tell:
    tell("rules read", 1234567)
table.add([("ip4/10.0.0.0_8", 7), ("\\x1b[31m[bold]", 12345), (None, None)], lambda row: row)
table.show()
sys.stdout.flush()
sys.exit("rich" in sys.modules)
"""


def show(*, stdout: bool, stderr: bool, columns: int = 60) -> tuple[int, str, str]:
    """Run SHOW with a terminal for stdout or stderr or with pipes; return its exit code and what came from either."""
    ends = {1: pty.openpty() if stdout else os.pipe(), 2: pty.openpty() if stderr else os.pipe()}
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        env={"TERM": "xterm", "COLUMNS": str(columns), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=ends[1][1],
        stderr=ends[2][1],
        timeout=30,
    )
    said = []
    for ours, theirs in ends.values():
        os.set_blocking(ours, False)
        pieces = []
        with contextlib.suppress(OSError):  # nothing more to read
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        said.append(b"".join(pieces).decode())
        os.close(ours)
        os.close(theirs)
    return done.returncode, said[0], said[1]


def test_pipes_get_plain_columns_and_no_rich() -> None:
    code, stdout, stderr = show(stdout=False, stderr=False)
    assert (code, stderr) == (0, "")
    assert stdout == "rule              hits\nip4/10.0.0.0_8       7\n\\x1b[31m[bold]  12,345\n-                    -\n"


def test_a_terminal_gets_a_table_in_which_nothing_is_obeyed() -> None:
    code, stdout, stderr = show(stdout=True, stderr=False)
    assert (code, stderr) == (1, "")
    assert "─" in stdout and "12,345" in stdout
    assert "\\x1b[31m[bold]" in stdout and stdout.count("\x1b[31m") == stdout.count("\x1b[31m     7\x1b[0m") == 1


def test_a_terminal_that_is_too_narrow_for_a_table_gets_a_line_for_each_cell() -> None:
    code, stdout, _ = show(stdout=True, stderr=False, columns=20)
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", stdout).splitlines()]
    assert code == 1
    assert lines[:5] == ["rule  ip4/10.0.0.0_8", "hits  7", "", "rule  \\x1b[31m[bold]", "hits  12,345"]


def test_progress_is_for_a_terminal_on_stderr() -> None:
    code, stdout, stderr = show(stdout=False, stderr=True)
    assert code == 1
    assert "rules read: 1,234,567" in stderr
    assert stdout.startswith("rule ")


def test_a_table_shows_no_more_rows_than_anybody_reads(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("number")
    table.add(range(MOST_ROWS + 1234), lambda number: [number])
    table.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["999", "… and 1,234 more; --json gives all"]
    assert len(lines) == MOST_ROWS + 2


def test_plain_columns_fit_120_characters(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("rule", "decision")
    table.add(["x" * 100_000, *["y"] * 500], lambda rule: (rule, "allow"))
    table.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{'x' * 110}  allow" and lines[-1] == f"y{' ' * 109}  allow"
    assert "".join(lines[1:-500]).replace("  allow", "") == "x" * 100_000


def test_numbers_of_things() -> None:
    assert [count(0, "rule"), count(1, "rule"), count(2000, "rule")] == ["0 rules", "1 rule", "2,000 rules"]
    assert [count(1, "address"), count(2**32, "address")] == ["1 address", "4,294,967,296 addresses"]


@pytest.mark.parametrize("text", ["plain", "ä€"])
def test_what_is_printable_stays(text: str) -> None:
    assert printable(text) == text
    assert printable(f"{text}\r\n\x85\u2028") == f"{text}\\r\\n\\x85\\u2028"


@pytest.fixture
def rules(tmp_path: Path) -> str:
    write_cdb(str(tmp_path / "rules.cdb"), [(b"ip4/192.0.2.0_24", Rule(True))])
    return str(tmp_path / "rules.cdb")


WRITERS = [["report"], ["map"], ["minimise"], ["export", "text"]]


@pytest.mark.parametrize("words", WRITERS)
def test_what_is_no_file_is_not_replaced(words: list[str], rules: str, tmp_path: Path) -> None:
    """As /dev/null would be, for whoever is root and wants no output."""
    out = tmp_path / "out.svg"
    os.mkfifo(out)
    code, stderr = said(["s6-accessrules", *words, rules, str(out)])
    assert (code, stderr) == (
        111,
        f"s6-accessrules {words[0]}: fatal: unable to write {out}: what is there is no file\n",
    )
    assert out.is_fifo() and sorted(os.listdir(tmp_path)) == ["out.svg", "rules.cdb"]


@pytest.mark.parametrize("words", [words for words in WRITERS if words != ["map"]])
def test_a_file_without_a_name(words: list[str], rules: str) -> None:
    code, stderr = said(["s6-accessrules", *words, rules, ""])
    assert code == 111
    assert stderr.endswith(" fatal: unable to write a file without a name: No such file or directory\n")


def test_a_page_is_written_where_a_link_leads(rules: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/page.html").write_text("old")
    (tmp_path / "page.html").symlink_to("there/page.html")
    assert run(["s6-accessrules", "report", rules, str(tmp_path / "page.html")]).returncode == 0
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "there/page.html").read_text().startswith("<!DOCTYPE html>")
    assert os.listdir(tmp_path / "there") == ["page.html"]
