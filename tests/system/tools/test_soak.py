"""tools/soak runs, counts, and finds the server as it was: a few seconds of it, whose latencies say nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[3] / "tools" / "soak"


def test_a_short_run_finds_all_as_it_was_in_both_modes() -> None:
    words = [sys.executable, str(SOAK), "--minutes=0.05", "--clients=16"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400)
    heads = re.findall(r"^(\w+), 16 hostile clients, 0\.05 minutes$", done.stdout, re.MULTILINE)
    assert heads == ["connection", "worker"], done.stdout + done.stderr
    answers = re.findall(r"^  good client, answers +(\d+) +(\d+)$", done.stdout, re.MULTILINE)
    assert len(answers) == 2 and all(int(count) for counts in answers for count in counts)
    for what in (r"memory \(Pss\), KB", "descriptors", "processes", "zombies", "processes after SIGTERM"):
        assert len(re.findall(rf"^  {what} +\d.* ok$", done.stdout, re.MULTILINE)) == 2, done.stdout
    attacks = re.findall(r"^  (\d+) attacks: (.*)$", done.stdout, re.MULTILINE)
    assert [sum(map(int, re.findall(r"\d+", ways))) for _, ways in attacks] == [int(total) for total, _ in attacks]
    assert all(int(total) >= 8 for total, _ in attacks)
    assert done.returncode == ("NOT OK" in done.stdout)


def test_what_it_cannot_try_it_refuses() -> None:
    done = subprocess.run([sys.executable, str(SOAK), "--isolation=none"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")
