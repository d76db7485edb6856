"""s6-accessrules-fs-from-cdb: decompile a rule set from a cdb file into a directory tree."""

from __future__ import annotations

from s6tls.accessrules.decompile import decompile
from s6tls.accessrules.deferred_signals import DeferredSignals, Interrupted
from s6tls.accessrules.errors import RuleSetError
from s6tls.accessrules.text import shown
from s6tls.cli.frame.options import Synopsis
from s6tls.cli.frame.program import Failure, run
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.log import log

SYNOPSIS = Synopsis("s6-accessrules-fs-from-cdb", (), "dir cdbfile", ignores_surplus=True)


def main() -> None:
    """Run the program."""
    run(SYNOPSIS, decompile_from)


def decompile_from(argv: list[bytes]) -> int:
    """Decompile what these words say.  Returns 0 or raises what `run` turns into an exit code."""
    directory, cdbfile = SYNOPSIS.read(argv).words
    try:
        with DeferredSignals() as interruption:
            decompile(directory, cdbfile, warn=_warn, checkpoint=interruption.checkpoint)
    except RuleSetError as error:
        raise Failure(ExitCode.SYSTEM, f"unable to decompile {shown(cdbfile)}: {error}") from error
    except OSError as error:
        raise Failure(ExitCode.SYSTEM, f"unable to decompile {shown(cdbfile)}: {error.strerror or error}") from error
    except Interrupted:
        raise Failure(ExitCode.SYSTEM, "interrupted") from None
    return 0


def _warn(message: str) -> None:
    log(SYNOPSIS.program, "warning", message)
