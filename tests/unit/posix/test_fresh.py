"""What a program of our own finds in its fresh interpreter: next to nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.fresh.reporter import report
from tests.support.processes import descriptors


def test_it_has_stderr_and_what_it_works_with_and_nobody_steers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SECRET", "x")
    with open(tmp_path / "ours", "w") as file:
        os.set_inheritable(file.fileno(), True)
        said = report("colorsys")
    assert said["flags"] == [1, True, 1, 1] and "colorsys" in str(said["modules"])
    assert said["variables"] == "" and said["blocked"] == []
    links = said["descriptors"]
    assert isinstance(links, dict)
    assert (links.pop("0"), links.pop("1"), links.pop("2")) == ("/dev/null", "/dev/null", descriptors(os.getpid())[2])
    assert not [link for link in links.values() if str(tmp_path) in link or "memfd" in link]


def test_what_forks_often_has_the_variables_for_that_and_no_others() -> None:
    said = report(forks_often=True)
    assert said["variables"] == "PYTHONMALLOC=malloc\0LD_BIND_NOW=1\0" and said["flags"] == [1, True, 1, 1]
