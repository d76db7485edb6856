"""Become another program, under a kernel that lacks some system calls: ``python lesser_kernel.py call,… program…``."""

from __future__ import annotations

import errno
import os
import sys

from s6tls.posix.linux import seccomp
from s6tls.posix.linux.seccomp import ALWAYS
from s6tls.posix.linux.syscalls import this_machine


def without(*calls: str) -> tuple[str, ...]:
    """Return the words that a command is to stand behind."""
    return sys.executable, os.path.abspath(__file__), ",".join(calls)


def main() -> None:
    machine = this_machine()
    assert machine is not None
    lacking = dict.fromkeys(sys.argv[1].split(","), errno.ENOSYS)
    there = {name: ALWAYS for name in machine.numbers if name not in lacking}
    seccomp.Filter(machine, seccomp.program(machine, there, lacking)).install()
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
