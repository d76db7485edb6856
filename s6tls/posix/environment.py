"""The environment that a process was given, kept for programs and away from our own interpreter.

`os` is all that this loads: it is at work while a module may still come from where PYTHONPATH leads.
"""

from __future__ import annotations

import os
import sys


def initial_environment() -> dict[bytes, bytes]:
    """Return the environment that this process was given, without what the interpreter changed.

    In a C locale the interpreter sets LC_CTYPE for itself (PEP 538); the kernel
    remembers the block that exec handed over.  A variable without a name could not be handed on.
    """
    env = {name: value for name, value in os.environb.items() if name}
    if b"LC_CTYPE" in env:
        try:
            with open("/proc/self/environ", "rb") as block:
                given = [entry[9:] for entry in block.read().split(b"\0") if entry.startswith(b"LC_CTYPE=")]
        except OSError:
            return env
        del env[b"LC_CTYPE"]
        env.update((b"LC_CTYPE", value) for value in given[:1])
    return env


def isolate() -> None:
    """If variables of the environment may steer our interpreter, start it again so that it looks at none of them.

    They stay in the environment: programs get them.  Raises OSError.
    """
    if not sys.flags.ignore_environment and any(name.startswith(b"PYTHON") for name in os.environb):
        os.execve(sys.executable, [sys.executable, "-EP", *sys.orig_argv[1:]], initial_environment())
