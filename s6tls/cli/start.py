"""Where each command begins: ``start.s6_tlsd()`` runs `s6tls.cli.s6_tlsd`, in an interpreter that nobody steers.

Variables such as PYTHONPATH and PYTHONWARNINGS are for the programs that are served.  What `tools/install-venv`
installs ignores them from the interpreter's first step, and nothing happens here.  Other installers cannot be told to,
so here the interpreter is started again, before it loads what those variables lead to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from s6tls.posix import environment


def __getattr__(command: str) -> Callable[[], None]:
    """Return what runs the command of this module of `s6tls.cli`."""
    if command.startswith("_"):
        raise AttributeError(command)

    def main() -> None:
        try:
            environment.isolate()
        except OSError as error:
            os.write(2, f"{command.replace('_', '-')}: fatal: unable to start again: {error.strerror}\n".encode())
            sys.exit(111)  # ExitCode.SYSTEM, whose module loads enum
        import importlib

        importlib.import_module(f"s6tls.cli.{command}").main()

    return main
