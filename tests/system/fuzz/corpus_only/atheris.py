"""What the fuzz targets need of atheris, where it is not installed: each file of the corpus is one input."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

_inputs: list[tuple[Callable[[bytes], None], bytes]] = []


def instrument_imports() -> contextlib.nullcontext[None]:
    return contextlib.nullcontext()


def Setup(argv: list[str], one_input: Callable[[bytes], None]) -> None:
    for entry in os.scandir(argv[1]):
        with open(entry.path, "rb") as file:
            _inputs.append((one_input, file.read()))


def Fuzz() -> None:
    assert _inputs
    for one_input, data in _inputs:
        one_input(data)
