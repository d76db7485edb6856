"""Process start-up: clean our own state, find programs, and fork children that get no signal meant for us."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import errno
import os
import resource
import signal
import stat
from collections.abc import Iterable

_HANDLED = tuple(
    int(number)
    for number in (
        signal.SIGCHLD,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGABRT,
        signal.SIGINT,
        signal.SIGPIPE,
        signal.SIGUSR1,
    )
)
RESETTABLE = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}


def children(pid: int) -> list[int]:
    """Return the children of a process, as far as the system tells.

    The kernel leaves out living children when others end while it lists them, so it is asked until it says the same
    twice, at most five times, and all that it named are returned.
    """
    named: dict[int, None] = {}
    last = None
    for _ in range(5):
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as numbers:
                listed = numbers.read()
        except OSError:
            break
        named.update(dict.fromkeys(map(int, listed.split())))
        if listed == last:
            break
        last = listed
    return list(named)


def kill_child(pid: int) -> None:
    """Kill a child that has not been waited for; no other process."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        os.kill(pid, signal.SIGKILL)


def kill_holders(fd: int) -> None:
    """Kill those of our children, and theirs, that have the same open file as `fd` or the other end of its pipe."""
    pipe = os.fstat(fd)
    ours = children(os.getpid())
    for pid in (*ours, *(grandchild for child in ours for grandchild in children(child))):
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            if any(_is_open_as(pipe, entry) for entry in entries):
                os.kill(pid, signal.SIGKILL)


def _is_open_as(file: os.stat_result, entry: os.DirEntry[str]) -> bool:
    try:
        return os.path.samestat(file, os.stat(entry.path))
    except OSError:
        return False


def redirect_to_null(*fds: int) -> None:
    """Open /dev/null in place of each of these descriptors, which may be closed; programs inherit it."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in fds:
        if fd == null:
            os.set_inheritable(fd, True)
        else:
            os.dup2(null, fd)
    if null not in fds:
        os.close(null)


def occupy_standard_descriptors() -> None:
    """Open /dev/null on whichever of 0, 1 and 2 is closed, so that nothing else can land there."""
    closed = [fd for fd in (0, 1, 2) if not _is_open(fd)]
    if closed:
        redirect_to_null(*closed)


def keep_from_programs() -> None:
    """Mark every descriptor above 2 close-on-exec, those included that our own starter left open."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor of this process but these."""
    first = 0
    for fd in sorted(kept):
        if fd > first:  # an empty range would be taken for one without end
            os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def default_signals() -> None:
    """Set every signal to its default and unblock all."""
    for number in RESETTABLE:
        with contextlib.suppress(OSError, ValueError):
            if signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def search(name: bytes, path: bytes | None) -> bytes:
    """Return the path of what exec would find under `name` with this PATH; None is the system's.  Raises OSError."""
    if b"/" in name:
        return name
    reason = errno.ENOENT
    for directory in (os.fsencode(os.defpath) if path is None else path).split(b":"):
        candidate = b"%b/%b" % (directory or b".", name)
        try:
            is_file = stat.S_ISREG(os.stat(candidate).st_mode)
        except (OSError, ValueError):
            continue
        if is_file:
            if os.access(candidate, os.X_OK):
                return candidate
            reason = errno.EACCES
    raise OSError(reason, os.strerror(reason))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def fork() -> int:
    """Fork; the child starts with default signals, none blocked, and no signal meant for it reaches our loop.

    A connection costs a fork or two, so this one takes care: the functions of `signal` make an enum member of each
    number, and for the many without a name an exception; those of `_signal` do not.  Only the signals for which we
    ever have a handler are looked at.  All this takes 0.19 ms; with `signal` and all numbers it would be 0.36 ms, and
    `os.fork` alone is 0.16 ms.
    """
    handled = [number for number in _HANDLED if _signal.getsignal(number) != _signal.SIG_DFL]
    blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, handled)
    pid = -1
    try:
        pid = os.fork()
        if pid == 0:
            _signal.set_wakeup_fd(-1)
            for number in handled:
                _signal.signal(number, _signal.SIG_DFL)
            _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, () if pid == 0 else blocked)
    return pid
