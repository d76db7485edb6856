"""Each fuzz target starts, and finds nothing wrong in its corpus.  Fuzzing itself is for hands: see fuzz/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import PATH

ROOT = Path(__file__).parents[3]
TARGETS = sorted((ROOT / "fuzz").glob("fuzz_*.py"))


@pytest.mark.parametrize("target", TARGETS, ids=lambda path: path.stem)
def test_a_target_takes_its_corpus(target: Path) -> None:
    corpus = ROOT / "fuzz" / "corpus" / target.stem.removeprefix("fuzz_")
    env = {"PATH": PATH, "PYTHONPATH": str(Path(__file__).parent / "corpus_only")}
    done = subprocess.run([sys.executable, target, corpus], env=env, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_corpus_has_its_target() -> None:
    corpora = sorted(path.name for path in (ROOT / "fuzz" / "corpus").iterdir())
    assert corpora == [target.stem.removeprefix("fuzz_") for target in TARGETS]
