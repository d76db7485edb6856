"""tools/bench runs, and says what it promises: one small run, in one test."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

BENCH = os.path.join(os.path.dirname(__file__), "..", "..", "..", "tools", "bench")


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, BENCH, *options], capture_output=True, text=True, timeout=60)


def test_a_small_run_reports_every_figure_as_text_and_as_json(tmp_path: os.PathLike[str]) -> None:
    file = os.path.join(tmp_path, "figures.json")
    done = bench(
        "--rounds=1",
        "--seconds=0.2",
        "--only=denied",
        "--only=idle",
        "--idle=3",
        "--servers=worker,socat",
        "--json",
        file,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with open(file) as stream:
        report = json.load(stream)
    assert set(report) == {"machine", "options", "metrics", "problems"}
    assert {"date", "cpu", "cores", "kernel", "python", "openssl"} <= set(report["machine"])
    assert set(report["metrics"]) == {"denied", "idle"}
    assert set(report["metrics"]["denied"]["servers"]) == {"worker"}
    for metric in report["metrics"].values():
        for server in metric["servers"].values():
            [value] = server["rounds"]
            assert server["median"] == value and server["range"] == [value, value]
    assert report["metrics"]["denied"]["servers"]["worker"]["median"] > 0
    assert {"denied connections, /s", "memory per idle connection, KB"} <= {
        line.partition(";")[0] for line in done.stdout.splitlines()
    }


@pytest.mark.parametrize("option", ["--only=everything", "--servers=apache"])
def test_what_it_cannot_measure_it_refuses(option: str) -> None:
    done = bench(option)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")
