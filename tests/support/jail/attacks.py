"""What code could try that runs inside one of our processes, put there with a debugger, as a fault of ours might.

The product has no way to run such code: gdb calls the interpreter from outside.
"""

from __future__ import annotations

import os
import subprocess

from s6tls.posix.linux.syscalls import this_machine
from tests.support.servers import PATIENCE

MACHINE = this_machine()
assert MACHINE is not None
NUMBERS = MACHINE.numbers
_AT_FDCWD = -100

_INSIDE = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
room = ctypes.create_string_buffer(4096)
said = []
for number, *words in {attempts!r}:
    passed = [ctypes.c_long(word) if isinstance(word, int) else room if word is None else word for word in words]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *passed)
    if number in {forks!r} and result == 0:
        os._exit(0)
    said.append("done" if result >= 0 else errno.errorcode[ctypes.get_errno()])
verdict = " ".join(said)
"""
_CALL = "call (int)PyGILState_Ensure()"
_SHOW = (
    'printf "verdict: %s\\n", (char*)PyUnicode_AsUTF8('
    '(void*)PyObject_GetAttrString((void*)PyImport_AddModule("__main__"), "verdict"))'
)

Word = int | bytes | None
"""An argument: a number, text, or None for room to write to or read from."""
Attempt = tuple[str, *tuple[Word, ...]]


def inside(pid: int, source: str) -> str:
    """Run Python source in a process, and return what it leaves in the variable `verdict`."""
    text = f"exec(bytes.fromhex('{source.encode().hex()}').decode(), vars(__import__('__main__')))"
    commands = ["set confirm off", "handle SIGSYS nostop noprint pass", _CALL]
    commands += [f'call (int)PyRun_SimpleString("{text}")', _SHOW, "call (void)PyGILState_Release($1)", "detach"]
    words = ["gdb", "-nx", "-batch", "-p", str(pid)]
    for command in commands:
        words += ["-ex", command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    line = next((line for line in done.stdout.splitlines() if line.startswith("verdict: ")), None)
    assert line is not None, done.stdout + done.stderr
    return line.removeprefix("verdict: ")


def outcomes(pid: int, attempts: dict[str, Attempt]) -> dict[str, str]:
    """Have a process try system calls; return for each the name of its errno, or "done"."""
    calls = [(NUMBERS[name], *words) for name, *words in attempts.values()]
    forks = [NUMBERS[name] for name in ("fork", "clone", "clone3") if name in NUMBERS]
    said = inside(pid, _INSIDE.format(attempts=calls, forks=forks)).split()
    return dict(zip(attempts, said, strict=True))


def attempts(server: int, near: int) -> dict[str, Attempt]:
    """Return what to try; `server` and `near` are processes that code of a stranger would like to reach."""
    proc = f"/proc/{server}/".encode()
    address = b"\x02\x00\x00\x50\x7f\x00\x00\x01" + bytes(8)  # 127.0.0.1, port 80
    return {
        "read a file": ("openat", _AT_FDCWD, b"/etc/passwd", os.O_RDONLY),
        "make a file": ("openat", _AT_FDCWD, b"/tmp/of-a-stranger", os.O_WRONLY | os.O_CREAT, 0o666),
        "read the server's memory": ("openat", _AT_FDCWD, proc + b"mem", os.O_RDONLY),
        "read the server's environment": ("openat", _AT_FDCWD, proc + b"environ", os.O_RDONLY),
        "write the log": ("openat", _AT_FDCWD, proc + b"fd/2", os.O_WRONLY),
        "remove a file": ("unlinkat", _AT_FDCWD, b"/tmp/of-a-stranger", 0),
        "run a shell": ("execve", b"/bin/sh", 0, 0),
        "fork": ("clone", 17, 0, 0, 0, 0),
        "fork otherwise": ("clone3", None, 0),
        "open a Unix socket": ("socket", 1, 1, 0),
        "open a raw socket": ("socket", 2, 3, 1),
        "open a TCP socket": ("socket", 2, 1, 0),
        "connect": ("connect", 2, address, 16),
        "connect otherwise": ("sendto", 2, b"!", 1, 0x20000000, address, 16),
        "speak a protocol that is hidden": ("socket", 2, 1, 262),
        "have the kernel send signals": ("fcntl", 2, 8, near),
        "have them sent from now on": ("fcntl", 2, 4, 0x2000),
        "bind": ("bind", 2, address, 16),
        "listen": ("listen", 2, 1),
        "accept": ("accept4", 2, 0, 0, 0),
        "stop the server": ("kill", server, 19),
        "end a neighbour": ("kill", near, 9),
        "end all": ("kill", -1, 9),
        "end a thread": ("tgkill", near, near, 9),
        "take the server's descriptors": ("prlimit64", server, 7, bytes(16), 0),
        "take a neighbour's descriptors": ("prlimit64", near, 7, bytes(16), 0),
        "have all descriptors": ("prlimit64", 0, 7, (2**20).to_bytes(8, "little") * 2, 0),
        "trace the server": ("ptrace", 16, server, 0, 0),
        "trace a neighbour": ("ptrace", 16, near, 0, 0),
        "read a neighbour's memory": ("process_vm_readv", near, None, 1, None, 1, 0),
        "hold a neighbour": ("pidfd_open", near, 0),
        "leave for a namespace": ("unshare", 0x10000000),
        "mount": ("mount", b"none", b"/tmp", b"tmpfs", 0, 0),
        "change the root": ("chroot", b"/tmp"),
        "be root": ("setresuid", 0, 0, 0),
        "be seen again": ("prctl", 4, 1, 0, 0, 0),
        "have code": ("mmap", 0, 4096, 7, 0x22, -1, 0),
        "load a program into the kernel": ("bpf", 0, None, 64),
        "have the kernel do it": ("io_uring_setup", 8, None),
        "share memory": ("shmget", 0, 4096, 0o1666),
        "keep a key": ("add_key", b"user", b"k", b"v", 1, -2),
    }
