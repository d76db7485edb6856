"""Programs of our own that need none of what is in this process: each is started in an interpreter of its own.

A forked child has all that its parent has in memory, at the same addresses: it is as fat as its parent, and who learns
one address knows those of all.  What is started here imports only what it needs.
Nobody's variables steer its interpreter, and it looks for modules only where this process has found its own.
"""

from __future__ import annotations

import marshal
import os
import pickle
import sys
from pathlib import Path

from s6tls.posix import boot
from s6tls.posix.process import RESETTABLE

_ROOT = str(Path(__file__).parents[2])
_FOR_FORKS = {b"PYTHONMALLOC": b"malloc", b"LD_BIND_NOW": b"1"}
"""All memory is the C library's heap, which `s6tls.posix.layout` can arrange.  And the linker looks all functions up at
once: a fork that calls one for the first time would search each library, and copy pages for what it finds."""
_KEPT_VARIABLES = (b"LD_LIBRARY_PATH",)
"""What the system needs to start the interpreter itself."""


def start(module: str, setup: object, *kept: int, stderr: int = 2, forks_often: bool = False) -> int:
    """Run ``MODULE.main(pickled, *kept)``, where `pickled` is `setup`; return the process id.

    The program has the descriptors `kept` under the same numbers, `stderr` as 2, and no others; 0 and 1 are /dev/null.
    It has no environment, but for what makes forks cheap if it `forks_often`.  Every signal is at its default, and none
    is blocked.  Raises OSError.
    """
    path = [_ROOT, *(entry for entry in sys.path if os.path.isabs(entry))]
    with open(os.memfd_create("s6tls"), "w+b") as file:
        marshal.dump((path, pickle.dumps(setup)), file)
        file.flush()
        file.seek(0)
        null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
        inherited = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (*kept, file.fileno())]
        inherited.append((os.POSIX_SPAWN_DUP2, stderr, 2))
        variables = {name: os.environb[name] for name in _KEPT_VARIABLES if name in os.environb}
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-s", "-P", "-S", "-X", "utf8", boot.__file__, module, *map(str, (file.fileno(), *kept))],
            variables | (_FOR_FORKS if forks_often else {}),
            file_actions=[*null, *inherited],
            setsigmask=(),
            setsigdef=RESETTABLE,
        )
