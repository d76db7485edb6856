"""The jail of the processes that strangers speak to: what each role may still do, and why.

A process enters when it is ready: its files are read, its modules loaded, its ids taken.  What it holds then is all
that it will ever have.  Each wall stands for itself: if a kernel lacks one, or one has a hole, the others are there.

    jail = Jail(Role.ENGINE, Level.BEST, "s6-tlsd-io")      # as much as can be done ahead of the fork
    jail.enter()                                            # in the child
"""

from __future__ import annotations

import enum
import errno
import fcntl
import functools
import os
import resource
import socket
import stat
import termios
import time
from collections.abc import Callable

from s6tls.posix import stderr
from s6tls.posix.identity import Identity, IdRange
from s6tls.posix.linux import capabilities, landlock, libc, seccomp, trap
from s6tls.posix.linux.seccomp import ALWAYS, Calls, Where
from s6tls.posix.linux.syscalls import this_machine


class Level(enum.Enum):
    """How much there must be of a jail: all walls, those that the kernel has, or none."""

    REQUIRED = "required"
    BEST = "best"
    NONE = "none"


class Role(enum.Enum):
    """Who is to be confined."""

    POOL = "pool"
    """Forks engines, each of which holds one session."""
    POOL_OF_WORKERS = "pool of workers"
    ENGINE = "engine"
    WORKER = "worker"
    HELPER = "helper"


_FORKS = (Role.POOL, Role.POOL_OF_WORKERS)
_FILES = {Role.POOL: 32, Role.ENGINE: 16}
"""Descriptors for their few ends; others hold those of many connections, and may have all that the system allows."""
LOOKUP_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf")
"""What the DNS library and a lookup with /etc/hosts read; the files that are there when the jail is made."""
_DNS, _IDENT, _ANY_PORT = 53, 113, 0
_INET, _INET6 = socket.AF_INET, socket.AF_INET6
_TO_TAKE_IDS = (capabilities.SETUID, capabilities.SETGID)
_EXECUTABLE = 4
"""PROT_EXEC."""
_THREAD, _NAMESPACES = 0x00010000, 0x7E020000
"""Of clone(2): a thread of this process; the bits for namespaces."""
_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_COUNT_UNSENT = 0x894B
"""SIOCOUTQNSD."""
_IOCTLS = (termios.FIONREAD, termios.TIOCOUTQ, _COUNT_UNSENT, termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX)
_PRCTLS = ((4, 0), (38, 1), (24, 63), (47, 4))
"""PR_SET_DUMPABLE, to 0; PR_SET_NO_NEW_PRIVS; PR_CAPBSET_DROP; PR_CAP_AMBIENT, to clear all."""
_FCNTLS = (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_GETPIPE_SZ)
"""F_SETOWN is none of them, nor O_ASYNC a flag that may be set: they have the kernel send signals."""
_SET_FLAGS = (Where(1, fcntl.F_SETFL, fcntl.F_SETFL), Where(2, mask=fcntl.FASYNC))
_AT_ONCE = (Where(1, socket.IPPROTO_TCP, socket.IPPROTO_TCP), Where(2, socket.TCP_NODELAY, socket.TCP_NODELAY))
_FAST_OPEN = socket.MSG_FASTOPEN
"""Connects without connect(2), and Landlock does not see it."""
_LAST_PROTOCOL = socket.IPPROTO_UDP
"""The protocols after it, MPTCP and SCTP among them, are hidden from Landlock."""
_NO_CODE = ((Where(2, mask=_EXECUTABLE),),)
_OWN = (Where(0),)
"""Of prlimit64: this process."""
_ONLY_ASKS = (*_OWN, Where(2), Where(2, upper=True))


def _always(names: str) -> Calls:
    return dict.fromkeys(names.split(), ALWAYS)


_SESSIONS: Calls = {
    # Bytes, between descriptors that are open already: there is no open, socket, connect, bind, accept.
    **_always("read write readv writev recvfrom recvmsg"),
    "sendto": ((Where(4), Where(4, upper=True)),),
    "sendmsg": ((Where(2, mask=_FAST_OPEN),),),
    **_always("close close_range dup dup2 dup3 pipe2 splice shutdown getsockopt getsockname"),
    "setsockopt": (_AT_ONCE,),
    "fcntl": (*((Where(1, command, command),) for command in _FCNTLS), _SET_FLAGS),
    "ioctl": tuple((Where(1, request, request),) for request in _IOCTLS),
    # Waiting.
    **_always("epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll futex sched_yield"),
    **_always("clock_gettime clock_nanosleep nanosleep gettimeofday time restart_syscall"),
    # Memory, none of which can become code.
    **_always("brk munmap mremap madvise"),
    "mmap": _NO_CODE,
    "mprotect": _NO_CODE,
    # The process itself, and its end.  It sends no signal, not even to itself.
    **_always("getrandom rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack exit exit_group"),
    # What cannot fail: nobody would see that it has.
    **_always("getpid getppid gettid getuid geteuid getgid getegid"),
    "prlimit64": (_ONLY_ASKS,),
}
_FORKING: Calls = {
    **_SESSIONS,
    # Forks of itself, in its own namespaces, and their ends.
    "clone": ((Where(0, mask=_NAMESPACES),),),
    **_always("fork set_robust_list rseq wait4"),
    # What a fork does to enter a jail of its own.
    **_always("fstat newfstatat landlock_restrict_self seccomp capset"),
    "prctl": tuple((Where(0, option, option), Where(1, 0, most)) for option, most in _PRCTLS),
    "prlimit64": (_OWN,),
    # Who it is, to be sure of it.
    **_always("getresuid getresgid getgroups"),
}
_LOOKING_UP: Calls = {
    **_SESSIONS,
    # Questions by UDP and TCP.  Landlock knows to which ports.
    "socket": tuple((Where(0, family, family), Where(2, 0, _LAST_PROTOCOL)) for family in (_INET, _INET6)),
    **_always("connect bind setsockopt getpeername recvmmsg"),
    **{call: ((Where(3, mask=_FAST_OPEN),),) for call in ("sendto", "sendmmsg")},
    # resolv.conf and hosts, to be read.  Landlock knows where.
    "openat": ((Where(2, mask=_FOR_WRITING),),),
    "ioctl": tuple((Where(1, request, request),) for request in (*_IOCTLS, termios.TCGETS)),
    **_always("fstat newfstatat statx lseek uname"),
    # The thread in which the DNS library lets go of a name server.
    "clone": ((Where(0, _THREAD, _THREAD, _THREAD),),),
    **_always("set_robust_list rseq set_tid_address"),
    # The memory that its last words need.
    "prlimit64": (_OWN,),
}
_CALLS = {role: _FORKING if role in _FORKS else _SESSIONS for role in Role} | {Role.HELPER: _LOOKING_UP}
_REFUSED = {
    "clone3": errno.ENOSYS,  # the C library then uses clone, the arguments of which can be seen
    "setuid": errno.EPERM,  # tried to see that root cannot be had back
}


class Unjailable(Exception):
    """A jail was required, and this is why there is none."""


def lacking() -> str:
    """Return which walls this system has not, "" if it has all."""
    machine = this_machine()
    walls = {
        "seccomp": machine is not None and seccomp.available(machine),
        "Landlock": landlock.abi() > 0,
    }
    return " and ".join(name for name, there in walls.items() if not there)


def become(identity: Identity, uids: IdRange | None = None) -> None:
    """Take ids; nothing of root is left, but the right to take one of `uids` after that, if there are any.

    Raises OSError, BadIdentity.
    """
    capabilities.bound()
    if uids is not None:
        libc.keep_capabilities()
    identity.take()
    if uids is not None:
        capabilities.retain(_TO_TAKE_IDS)


class Jail:
    """A role's jail, made ready for those who will enter; it logs as `program`.

    Each engine or worker takes an id of its own from `uids`, if there are any: a pool keeps the right to do so.

    A process may be in the jail of another role, `outer`, until it enters: a fork, with a pipe for standard error
    (`stderr.redirect`).  Then only the difference is done, and little memory touched: each page costs a fork a copy.
    """

    def __init__(
        self, role: Role, level: Level, program: str, uids: IdRange | None = None, outer: Role | None = None
    ) -> None:
        """Raise Unjailable."""
        self._role, self._level, self._program, self._uids, self._outer = role, level, program, uids, outer
        self.descriptors: tuple[int, ...] = ()
        """What a child must keep open until it has entered."""
        self._walls: list[tuple[str, Callable[[], object]]] = []
        if level is Level.NONE:
            return
        if level is Level.REQUIRED and lacking():
            raise Unjailable(f"this system lacks {lacking()}")
        self._limits = self._lower_limits()
        try:
            self._plan_landlock()
        except OSError as error:
            self._lacks("Landlock", error)
        self._plan_seccomp()

    def _plan_landlock(self) -> None:
        if self._role is Role.HELPER:
            rules = landlock.ruleset(LOOKUP_FILES, (_DNS, _IDENT), (_ANY_PORT,))
        else:
            rules = landlock.ruleset()
        self.descriptors = (rules,)
        self._walls.append(("Landlock", landlock.restriction(rules)))

    def _plan_seccomp(self) -> None:
        machine = this_machine()
        if machine is None:
            return
        calls = self._calls(self._role)
        if self._outer is not None:
            code = seccomp.narrower(machine, calls, self._calls(self._outer), _REFUSED)
        else:
            code = seccomp.program(machine, calls, {} if self._role is Role.ENGINE else _REFUSED)
            self._walls.append(("seccomp", functools.partial(trap.install, machine, self._program)))
        self._walls.append(("seccomp", seccomp.Filter(machine, code).install))

    def enter(self) -> None:
        """Confine this process, for good.  Raises Unjailable, OSError, BadIdentity."""
        if self._uids is not None and self._role not in _FORKS:
            self._uids.own().take(capabilities.retain)
        if self._level is Level.NONE:
            return
        if self._outer is None:
            stderr.settle()
            time.tzset()
            libc.gain_nothing_by_exec()
            self._empty_capabilities()
        if self._outer is None or self._uids is not None:  # who takes other ids can be seen again
            libc.hide()
        for limit, most in self._limits:
            resource.setrlimit(limit, most)
        for wall, build in self._walls:
            try:
                build()
            except OSError as error:
                self._lacks(wall, error)

    def _empty_capabilities(self) -> None:
        capabilities.bound()
        keeps = self._uids is not None and self._role in _FORKS
        capabilities.retain(_TO_TAKE_IDS if keeps else ())

    def _lower_limits(self) -> list[tuple[int, tuple[int, int]]]:
        """Return the limits to set, soft and hard; what `outer` has set already is inherited."""
        most = {}
        if self._outer is None:
            most[resource.RLIMIT_CORE] = 0
        if self._outer is not None or not stat.S_ISREG(os.fstat(2).st_mode):
            most[resource.RLIMIT_FSIZE] = 0
        if self._role in _FILES:
            most[resource.RLIMIT_NOFILE] = _FILES[self._role]
        if self._role in (Role.ENGINE, Role.WORKER):
            most[resource.RLIMIT_NPROC] = 0
        return [(limit, _lowered(limit, number)) for limit, number in most.items()]

    def _calls(self, role: Role) -> Calls:
        calls = _CALLS[role]
        if self._uids is None or role not in _FORKS:
            return calls
        first, last = self._uids.first, self._uids.last
        ids = (tuple(Where(argument, first, last) for argument in range(3)),)
        return {**calls, "setresuid": ids, "setresgid": ids, "setgroups": ((Where(0),),)}

    def _lacks(self, wall: str, error: OSError) -> None:
        if self._level is Level.REQUIRED:
            raise Unjailable(f"{wall}: {error.strerror}") from error


def _lowered(limit: int, most: int) -> tuple[int, int]:
    """Return `most`, soft and hard, or a hard limit that is lower."""
    _, hard = resource.getrlimit(limit)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    return most, most
