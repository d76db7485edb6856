"""Starting the next program, as a child or in our own place.

It must find exactly what the chain made for it: descriptors 0, 1
and 2, those that a stage handed to it, and no others (all of ours are close-on-exec), every signal at its default
and none blocked, the limits that the server was started with, and no variable that the Python interpreter set for
itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn

from s6tls.accessrules.text import shown
from s6tls.posix.descriptors import set_soft_limit, soft_limit
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.identity import BadIdentity, Identity, why_not
from s6tls.posix.process import RESETTABLE, default_signals, fork, search
from s6tls.ucspi.image import SERVER, SHORTAGES, Image, Shortage, StageExit
from s6tls.ucspi.log import log, log_exit


def spawn(image: Image) -> int:
    """Start the image's program as a child and return its process id.

    With ids of our own, by posix_spawn: the parent's memory is neither copied nor
    marked for copying.  With other ids a fork is needed, because they must be taken
    and verified before the exec; the child then reports a failed exec by its exit code.  So it is for descriptors
    whose numbers are above the program's limit: posix_spawn does not take them.
    Raises StageExit (126, 127 or 111) when the program cannot be started.
    """
    program = locate(image)
    pid = _posix_spawn(image, program) if image.identity is None else None
    if pid is None:
        pid = fork()
        if pid == 0:
            with exits():
                _become(image, program)
    return pid


def _posix_spawn(image: Image, program: bytes) -> int | None:
    """Return the program's process id, or None when a descriptor's number is above its limit.  Raises StageExit."""
    standard = ((image.stdin, 0), (image.stdout, 1))
    try:
        if not image.extra and image.open_files is None:
            return _call_posix_spawn(image, program, standard)
        with _lifted(image.extra) as extra, soft_limit(image.open_files):
            places = (*standard, *extra)
            if image.open_files is not None and max(places)[0] >= image.open_files:
                return None
            return _call_posix_spawn(image, program, places)
    except (OSError, ValueError) as error:
        raise _exec_failure(image, error) from error


def _call_posix_spawn(image: Image, program: bytes, places: Sequence[tuple[int, int]]) -> int:
    return os.posix_spawn(
        program,
        image.argv,
        image.env,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in places],
        setsigmask=(),
        setsigdef=RESETTABLE,
    )


def locate(image: Image) -> bytes:
    """Return the path of the image's program.  Raises StageExit (126, 127)."""
    try:
        return search(image.argv[0], image.path)
    except (OSError, ValueError) as error:
        raise _exec_failure(image, error) from error


def execute(image: Image) -> NoReturn:
    """Become the image's program.  Raises StageExit when that fails."""
    _become(image, locate(image))


def _become(image: Image, program: bytes) -> NoReturn:
    # When stdout comes from 0 it must be moved before 0 is overwritten.
    stdout = os.dup(image.stdout) if image.stdout == 0 and image.stdin != 0 else image.stdout
    if image.stdin != 0:
        os.dup2(image.stdin, 0)
    if stdout != 1:
        os.dup2(stdout, 1)
    with _lifted(image.extra) as extra:
        for fd, number in extra:
            os.dup2(fd, number)
    default_signals()
    if image.open_files is not None:
        set_soft_limit(image.open_files)
    if image.identity is not None:
        take(image.identity, image.link)
    try:
        os.execve(program, image.argv, image.env)
    except (OSError, ValueError) as error:
        raise _exec_failure(image, error) from error


def take(identity: Identity, program: str) -> None:
    """Take ids for good.  Raises StageExit (111)."""
    try:
        identity.take()
    except (OSError, BadIdentity) as error:
        raise StageExit(program, ExitCode.SYSTEM, f"unable to drop privileges: {why_not(error)}") from error


@contextlib.contextmanager
def _lifted(extra: Mapping[int, int]) -> Iterator[list[tuple[int, int]]]:
    """Copy descriptors to where none is in the way of another's number; give the copies with those numbers."""
    above = max(extra, default=2) + 1
    lifted: list[tuple[int, int]] = []
    try:
        for number, fd in extra.items():
            lifted.append((fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above), number))
        yield lifted
    finally:
        for copy, _ in lifted:
            os.close(copy)


def _exec_failure(image: Image, error: OSError | ValueError) -> StageExit:
    """Say what the link that was to become the program would have said; ValueError is for text that exec cannot take.

    When no link was, the server was to start it, and that is no end for a server.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOENT, errno.ENOTDIR):
        code = ExitCode.NOT_FOUND
    elif number in (errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG):
        code = ExitCode.NOT_EXECUTABLE
    else:
        code = ExitCode.SYSTEM
    what = f"{shown(image.argv[0])}: {error.strerror if isinstance(error, OSError) else error}"
    failure = Shortage if number in SHORTAGES else StageExit
    if image.link == SERVER:
        return failure(SERVER, code, f"unable to spawn {what}", kind="warning")
    return failure(image.link, code, f"unable to exec {what}")


def try_in_a_child(program: str, act: Callable[[], object]) -> None:
    """Do something in a child, for which it is done with.  Raises StageExit, as it has ended, once it is logged why."""
    pid = fork()
    if pid == 0:
        with exits():
            act()
    if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise StageExit(program, code)


class exits:
    """A block of a forked child: leaving it, in whatever way, ends the process without cleaning up for the parent.

    A StageExit is logged and gives its code; anything else gives 111.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> NoReturn:
        code: int = ExitCode.SYSTEM
        try:
            code = _exit_code(error)
        finally:  # also when there is no memory to say why
            os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    """Return what a process ends with that is ended by `error`, having logged it."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.SYSTEM
    if isinstance(error, StageExit):
        log_exit(error)
        return error.code
    log("s6tls", "fatal", f"unable to go on: {type(error).__name__}: {error}")
    return ExitCode.SYSTEM
