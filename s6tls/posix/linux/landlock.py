"""Landlock: a process gives up the file system, TCP and signals, but for what it names; its children too.

Newer kernels can take more away.  What this one can is its ABI, a number (0: nothing).
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterable

from s6tls.posix.linux.libc import prepared, syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_FOR_ABI = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_READ_FILE = 1 << 2
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many kinds of access to files an ABI knows; from 5 on, 16."""
_TCP_SINCE, _SCOPES_SINCE = 4, 6


def abi() -> int:
    """Return the kernel's ABI."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _ASK_FOR_ABI)
    except OSError:
        return 0


def ruleset(readable: Iterable[str] = (), connect: Iterable[int] = (), bind: Iterable[int] = ()) -> int:
    """Return a descriptor of what is left: files to read, or beneath directories, and TCP ports.  Raises OSError.

    There are no abstract sockets and no signals beyond the processes under the same rules.  A file that is not there
    is left out.
    """
    known = abi()
    files = (1 << _FILE_RIGHTS.get(known, 16)) - 1
    fields = [files]
    if known >= _TCP_SINCE:
        fields.append(_BIND_TCP | _CONNECT_TCP)
    if known >= _SCOPES_SINCE:
        fields.append(_ABSTRACT_SOCKETS | _SIGNALS)
    rules = syscall(_CREATE_RULESET, struct.pack(f"={len(fields)}Q", *fields), 8 * len(fields), 0)
    try:
        for path in readable:
            with contextlib.suppress(FileNotFoundError):
                _add_file(rules, path)
        if known >= _TCP_SINCE:
            for access, ports in ((_CONNECT_TCP, connect), (_BIND_TCP, bind)):
                for port in ports:
                    syscall(_ADD_RULE, rules, _NET_PORT, struct.pack("=QQ", access, port), 0)
    except BaseException:
        os.close(rules)
        raise
    return rules


def restriction(rules: int) -> Callable[[], None]:
    """Return a function that has this process keep only what a ruleset leaves, and closes it.  It raises OSError."""
    restrict = prepared(_RESTRICT_SELF, rules, 0)

    def enter() -> None:
        try:
            restrict()
        finally:
            os.close(rules)

    return enter


def _add_file(rules: int, path: str) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", _READ_FILE, fd), 0)
    finally:
        os.close(fd)
