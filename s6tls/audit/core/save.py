"""Rule sets from memory to disk, in either form, and only if what is then read there is what was meant."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from s6tls.accessrules.cdb import DEFAULT_MODE, write_cdb
from s6tls.accessrules.tree import write_tree
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable


def is_cdb(path: str | bytes, loaded: LoadedRules) -> bool:
    """Tell which form a rule set gets: that of a cdb if the name ends so, else the one that was loaded."""
    return os.fsencode(path).endswith(b".cdb") or not loaded.is_tree


def write(
    path: str | bytes,
    loaded: LoadedRules,
    *,
    mode: int = DEFAULT_MODE,
    check: Callable[[LoadedRules], None] = lambda written: None,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
) -> None:
    """Write a rule set in the form that `is_cdb` tells, read it back, and hand that to `check`.

    A cdb takes the place of `path` at the very end, and gets the permissions `mode`; a tree must not exist yet.
    If anything is raised, by `check` or by `checkpoint`, which is called time and again, nothing new stays.
    Raises OSError or RuleSetError (UsageProblem if an environment is too large).
    """

    def read_back(place: str | bytes) -> None:
        check(LoadedRules.load(place, progress=progress))

    if is_cdb(path, loaded):
        write_cdb(path, loaded.rules.items(), mode=mode, checkpoint=checkpoint, check=read_back)
    else:
        write_tree(path, loaded.rules.items(), checkpoint=checkpoint, check=lambda: read_back(path))
