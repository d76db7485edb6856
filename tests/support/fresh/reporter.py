"""A program that `s6tls.posix.fresh` can start: it tells what it finds, and what is loaded once it has modules."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import signal
import sys
from pathlib import Path

from s6tls.posix import fresh
from tests.support.processes import descriptors


def report(*modules: str, forks_often: bool = False) -> dict[str, object]:
    """Start the program, have it import modules, and return what it says."""
    reading, writing = os.pipe()
    pid = fresh.start("tests.support.fresh.reporter", modules, writing, forks_often=forks_often)
    os.close(writing)
    with open(reading) as pipe:
        said: dict[str, object] = json.load(pipe)
    assert os.waitpid(pid, 0) == (pid, 0)
    return said


def main(pickled: bytes, kept: int) -> None:
    """Tell on `kept`."""
    mine = set(sys.modules)
    for module in pickle.loads(pickled):
        importlib.import_module(module)
    said = {
        "flags": [sys.flags.no_user_site, sys.flags.safe_path, sys.flags.no_site, sys.flags.utf8_mode],
        "variables": Path("/proc/self/environ").read_text(),
        "descriptors": {number: link for number, link in descriptors(os.getpid()).items() if number != kept},
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "modules": sorted(set(sys.modules) - mine),
    }
    with open(kept, "w") as pipe:
        json.dump(said, pipe)
