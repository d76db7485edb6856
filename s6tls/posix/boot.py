"""What a fresh interpreter runs first (see `s6tls.posix.fresh`): ``python -I -S boot.py MODULE SETUP KEPT``.

Nothing of ours can be imported before the setup has said from where.
"""

import importlib
import marshal
import os
import sys


def main() -> None:
    """Become MODULE; SETUP is the descriptor that says how, KEPT the one that it works with."""
    module, setup, kept = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(setup, "rb") as file:
        path, pickled = marshal.load(file)
    sys.path.extend(path)
    process = importlib.import_module("s6tls.posix.process")
    process.close_all_but({0, 1, 2, kept})
    importlib.import_module(module).main(kept, pickled)


if __name__ == "__main__":
    os.umask(0o077)
    main()
