"""A program that `s6tls.posix.fresh` can start: it makes a context as a pool does that can read no files any more."""

from __future__ import annotations

import os
import pickle
import sys

from s6tls.posix import fresh
from s6tls.tls.credentials import Credentials, SessionOptions


def failure(credentials: Credentials, options: SessionOptions) -> str:
    """Start the program, and return what it says if it cannot make a context and hold sessions in it, or else ""."""
    reading, writing = os.pipe()
    pid = fresh.start(__name__, (credentials, options), writing, stderr=writing)
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

    credentials, options = pickle.loads(pickled)
    os.close(kept)
    sys.meta_path.clear()
    context = build(credentials, options)
    list(oddities(credentials)), list(expiries(credentials))
    warm_up(context, options)
