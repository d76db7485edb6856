"""The edge of every program: where failures become one line on stderr and an exit code.

Inside, code raises typed failures; only here do they turn into numbers.  Whatever
happens, a user sees ``PROGRAM: fatal: …`` and never a traceback.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from s6tls import __version__
from s6tls.cli.frame.options import LOG_FORMAT, Given, Synopsis, UsageError
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.process import occupy_standard_descriptors
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.log import log, log_exit, use

_EXTRAS = {
    "PIL": ("pillow", "audit"),
    "rich": ("rich", "audit"),
    "zstandard": ("zstandard", "audit"),
    "prometheus_client": ("prometheus-client", "metrics"),
    "duckdb": ("duckdb", "sql"),
    "pyarrow": ("pyarrow", "sql"),
}
"""By the names that are imported, and only where they are needed: packages, and the extras that have them."""

_ANSWERS: dict[bytes, Callable[[Synopsis], str]] = {
    b"--help": lambda synopsis: synopsis.help(),
    b"--version": lambda synopsis: f"{synopsis.program} (s6tls) {__version__}\n",
}


class Failure(Exception):
    """The program cannot go on: `code` is its exit code, the message completes ``PROGRAM: fatal:``."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def unable_to(action: str, code: int = ExitCode.SYSTEM) -> Iterator[None]:
    """Turn an OSError raised in the block into the Failure ``unable to ACTION: REASON`` with this exit code."""
    try:
        yield
    except OSError as error:
        raise Failure(code, f"unable to {action}: {error.strerror or error}") from error


def run(synopsis: Synopsis, body: Callable[[list[bytes]], int]) -> NoReturn:
    """Run a program: `body` gets the words after the program's name and returns the exit code.

    ``--help`` prints the option table, ``--version`` the version; they must come first.
    """
    occupy_standard_descriptors()
    sys.exit(outcome(synopsis, body, [os.fsencode(word) for word in sys.argv[1:]]))


def outcome(synopsis: Synopsis, body: Callable[[list[bytes]], int], argv: Sequence[bytes]) -> int:
    """Return the exit code that `body` ends with, having said on stderr why when it is not a success."""
    program = synopsis.program
    try:
        if argv and argv[0] in _ANSWERS:
            os.write(1, _ANSWERS[argv[0]](synopsis).encode())
            return 0
        return body(list(argv))
    except UsageError as error:
        whose = (error.synopsis or synopsis).program
        log(whose, "usage", f"{error}; try {whose} --help")
        return ExitCode.USAGE
    except Failure as error:
        log(program, "fatal", str(error))
        return error.code
    except StageExit as refused:
        log_exit(refused)
        return refused.code
    except OSError as error:
        log(program, "fatal", f"unable to go on: {error}")
        return ExitCode.SYSTEM
    except ModuleNotFoundError as error:
        log(program, "fatal", f"unable to go on: {_missing(error)}")
        return ExitCode.SYSTEM
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except MemoryError:
        log(program, "fatal", "unable to go on: out of memory")
        return ExitCode.SYSTEM
    except Exception as error:
        log(program, "fatal", f"unable to go on: {type(error).__name__}: {error}")
        return ExitCode.SYSTEM


def heed_log_format(given: Given) -> None:
    """Read --log-format: it is for all that this process logs from now on.  Raises UsageError."""
    form = given.choice(LOG_FORMAT.name)
    if form is not None:
        use(form)


def _missing(error: ModuleNotFoundError) -> str:
    package, extra = _EXTRAS.get(str(error.name).partition(".")[0], ("", ""))
    return f"{package} is missing: install s6tls[{extra}]" if package else str(error)
