"""Seccomp: a program for the kernel that decides on each system call (seccomp(2)).

It is a list of what is allowed.  A call that is not on it sends SIGSYS to whoever makes it (see `trap`), so that
one which is missing can be told from one that failed.  A call of another machine's kind ends the process.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from s6tls.posix.linux.libc import prepared, syscall
from s6tls.posix.linux.syscalls import Machine

_KILL, _TRAP, _ERRNO, _ALLOW = 0x80000000, 0x00030000, 0x00050000, 0x7FFF0000
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_IF_EQUAL, _JUMP_IF_GREATER, _JUMP_IF_AT_LEAST = 0x15, 0x25, 0x35
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_ALL_THREADS = 1
_ALL_BITS = 0xFFFFFFFF

_INSTRUCTION = struct.Struct("=HBBI")
_Code = list[tuple[int, int, int, int]]


@dataclass(frozen=True)
class Where:
    """A condition: of an argument's lower half (or upper), the bits in `mask` are a number from `first` to `last`."""

    argument: int
    first: int = 0
    last: int = 0
    mask: int = _ALL_BITS
    upper: bool = False


Calls = Mapping[str, tuple[tuple[Where, ...], ...]]
"""Calls that are allowed: without conditions, or where one group of conditions holds."""
ALWAYS: tuple[tuple[Where, ...], ...] = ()


def available(machine: Machine) -> bool:
    """Tell whether the kernel takes such programs."""
    try:
        syscall(machine.numbers["seccomp"], _GET_ACTION_AVAIL, 0, struct.pack("=I", _TRAP))
    except OSError:
        return False
    return True


def program(machine: Machine, allowed: Calls, refused: Mapping[str, int]) -> bytes:
    """Return a program that allows some calls, lets others fail with an errno, and has all the rest trapped.

    Calls that the machine does not have are left out.
    """
    return _assembled(
        machine,
        {
            **{name: _any_of(groups) for name, groups in allowed.items()},
            **{name: [(_RETURN, 0, 0, _ERRNO | errno)] for name, errno in refused.items()},
        },
        _TRAP,
    )


def narrower(machine: Machine, allowed: Calls, outer: Calls, refused: Iterable[str]) -> bytes:
    """Return a program that leaves `allowed` of what one leaves that is in force: `program` of `outer` and `refused`.

    It is shorter, which a process that lives for one connection only is glad of.
    """
    taken = {name: _any_of(groups) for name, groups in allowed.items() if outer.get(name) != groups}
    gone = {name: [(_RETURN, 0, 0, _TRAP)] for name in (outer.keys() | set(refused)) - allowed.keys()}
    return _assembled(machine, taken | gone, _ALLOW)


class Filter:
    """A program, laid out as the kernel wants it: a process that lives for one connection only installs it."""

    def __init__(self, machine: Machine, code: bytes) -> None:
        self._code = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HP", len(code) // _INSTRUCTION.size, ctypes.addressof(self._code))
        self._install = prepared(machine.numbers["seccomp"], _SET_MODE_FILTER, _ALL_THREADS, header)

    def install(self) -> None:
        """Have the kernel run it from now on, in all threads.  Raises OSError."""
        self._install()


def _assembled(machine: Machine, calls: Mapping[str, _Code], otherwise: int) -> bytes:
    code: _Code = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_JUMP_IF_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for name, then in calls.items():
        if name in machine.numbers:
            code += [(_JUMP_IF_EQUAL, 0, len(then), machine.numbers[name]), *then]
    code.append((_RETURN, 0, 0, otherwise))
    return b"".join(_INSTRUCTION.pack(*line) for line in code)


def _any_of(groups: tuple[tuple[Where, ...], ...]) -> _Code:
    """Allow always, or if one group holds; else trap: the number has been overwritten, so nothing else can be tried."""
    if not groups:
        return [(_RETURN, 0, 0, _ALLOW)]
    code: _Code = []
    for group in groups:
        body = [line for where in group for line in _test(where)]
        left = len(body)
        for line, (operation, yes, no, value) in enumerate(body):
            skip = left - line  # over the rest of the group, and what allows
            yes, no = (skip if jump else 0 for jump in (yes, no))
            code.append((operation, yes, no, value))
        code.append((_RETURN, 0, 0, _ALLOW))
    return [*code, (_RETURN, 0, 0, _TRAP)]


def _test(where: Where) -> _Code:
    """Go on if a condition holds; a jump of 1 is one out of the group."""
    code: _Code = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * where.argument + 4 * where.upper)]
    if where.mask != _ALL_BITS:
        code.append((_AND, 0, 0, where.mask))
    if where.first == where.last:
        return [*code, (_JUMP_IF_EQUAL, 0, 1, where.first)]
    return [*code, (_JUMP_IF_AT_LEAST, 0, 1, where.first), (_JUMP_IF_GREATER, 1, 0, where.last)]
