"""Programs of our own (`s6tls.posix.fresh`) in which something is otherwise than usual."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Mapping
from typing import NoReturn

import pytest

from s6tls.posix import fresh

_start = fresh.start


def alter(patch: pytest.MonkeyPatch, changes: Mapping[str, object]) -> None:
    """Have the programs that are started from now on find these values under these dotted names."""

    def start(module: str, setup: object, *kept: int, stderr: int = 2, forks_often: bool = False) -> int:
        altered = dict(changes), module, pickle.dumps(setup)
        return _start(__name__, altered, *kept, stderr=stderr, forks_often=forks_often)

    patch.setattr(fresh, "start", start)


def main(pickled: bytes, *kept: int) -> None:
    """Become the program, altered."""
    changes, module, setup = pickle.loads(pickled)
    for name, value in changes.items():
        place, _, last = name.rpartition(".")
        setattr(pkgutil.resolve_name(place), last, value)
    importlib.import_module(module).main(setup, *kept)


def out_of_memory(*_: object) -> NoReturn:
    """Stand for a function that needs more memory than there is."""
    raise MemoryError
