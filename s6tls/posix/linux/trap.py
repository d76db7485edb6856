"""What happens to a call that seccomp's program does not allow: it fails with EPERM, and one line says which it was.

The kernel sends SIGSYS to the thread that makes the call, there and then.  So the handler may be Python: it interrupts
no other code than that call, as a callback from C does.  It says a process's first such call only, in one write that
does not wait; and only to standard error, which a process that strangers may take over has for itself
(`s6tls.ucspi.hearsay`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal

from s6tls.posix import stderr
from s6tls.posix.linux.syscalls import Machine

_SA_SIGINFO = 4
_CALL_AT = 24
"""Where siginfo_t has the number of the call."""
_RESULT_AT = {"x86_64": 144, "aarch64": 184}
"""Where ucontext_t has the register for the result: rax, x0."""


class _Action(ctypes.Structure):
    """The C library's struct sigaction."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[object] = []
"""The handler, which the kernel knows only by its address."""


def install(machine: Machine, program: str) -> None:
    """Handle SIGSYS in this process and its forks, which log as `program`.  Raises OSError."""
    result_at, told = _RESULT_AT[machine.name], False

    def handle(_: int, info: int, context: int) -> None:
        nonlocal told
        number = ctypes.c_int.from_address(info + _CALL_AT).value
        ctypes.c_long.from_address(context + result_at).value = -errno.EPERM
        if not told:
            told = True
            call = f"system call {number} ({machine.name_of(number)})"
            _say(stderr.line(program, "warning", f"{call} refused: the jail has no room for it"))

    handler = _Handler(handle)
    action = _Action(handler=ctypes.cast(handler, ctypes.c_void_p), flags=_SA_SIGINFO)
    if _libc.sigaction(signal.SIGSYS, ctypes.byref(action), None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _kept[:] = [handler]


def _say(line: bytes) -> None:
    room = select.poll()
    room.register(2, select.POLLOUT)
    if any(found & select.POLLOUT for _, found in room.poll(0)):
        os.write(2, line)
