"""Run a piece of a test in a forked child, where it may give up ids, descriptors or itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn


def in_child(body: Callable[[], object]) -> str:
    """Fork, run `body`, and return its result's repr, or that of the exception it raised."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _report(body, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def _report(body: Callable[[], object], writing: int) -> NoReturn:
    try:
        said = repr(body())
    except BaseException as error:
        said = repr(error)
    os.write(writing, said.encode())
    os._exit(0)


def outcome_of(body: Callable[[], NoReturn]) -> tuple[int, str]:
    """Fork and let `body` become another program; return its exit code and what it wrote to stdout."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        try:
            body()
        finally:
            os._exit(255)
    os.close(writing)
    with os.fdopen(reading, errors="surrogateescape") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said
