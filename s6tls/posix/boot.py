"""What a fresh interpreter runs first (see `s6tls.posix.fresh`): ``python -s -P -S boot.py MODULE SETUP KEPT...``.

Nothing of ours can be imported before the setup has said from where.
"""

import importlib
import marshal
import os
import sys


def main() -> None:
    """Become MODULE; SETUP is the descriptor that says how, KEPT are those that it works with."""
    module, (setup, *kept) = sys.argv[1], map(int, sys.argv[2:])
    with open(setup, "rb") as file:
        path, pickled = marshal.load(file)
    sys.path.extend(path)
    os.register_at_fork = _none_needed
    sys.modules["_hashlib"] = None  # type: ignore[assignment]  # or hashlib would load the system's OpenSSL, too
    process = importlib.import_module("s6tls.posix.process")
    process.close_all_but({0, 1, 2, *kept})
    importlib.import_module(module).main(pickled, *kept)


def _none_needed(**_: object) -> None:
    """Take no functions to be called at a fork: those of `threading` and `random` cost each child copies of 100 pages.

    Who forks here has one thread, and nobody asks `random` for anything that matters.
    """


if __name__ == "__main__":
    main()
