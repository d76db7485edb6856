"""A program that `s6tls.posix.fresh` can start: it makes contexts as a pool does that can read no files any more."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence

from s6tls.posix import fresh
from s6tls.tls.credentials import Credentials, SessionOptions


def failures(cases: Sequence[tuple[Credentials, SessionOptions]]) -> str:
    """Start the program, and return what it says of the first that cannot be made; "" if there is none."""
    reading, writing = os.pipe()
    pid = fresh.start(__name__, cases, writing, stderr=writing)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def main(pickled: bytes, kept: int) -> None:
    """Say on standard error what goes wrong."""
    import s6tls.tls.engines.keeper  # noqa: F401
    from s6tls.tls.context import build
    from s6tls.tls.context.oddities import expiries, oddities
    from s6tls.tls.engines.warmup import warm_up

    cases = pickle.loads(pickled)
    os.close(kept)
    sys.meta_path.clear()
    for credentials, options in cases:
        context = build(credentials, options)
        list(oddities(credentials)), list(expiries(credentials))
        warm_up(context, options)
