"""s6-tlsd-io: the TLS engine on its own, between the network on 0 and 1 and two descriptors of clear text."""

from __future__ import annotations

import os
from typing import NoReturn

from s6tls.cli.frame.options import JAIL, LOG_FORMAT, UNUSED_VERBOSITY, Option, Synopsis, UsageError, number
from s6tls.cli.frame.program import heed_log_format, run, unable_to
from s6tls.cli.s6_tlsd import ENGINE_OPTIONS, engine_options
from s6tls.posix.environment import initial_environment
from s6tls.tls.ends import Descriptors
from s6tls.tls.parameters import TlsParameters

SYNOPSIS = Synopsis(
    "s6-tlsd-io",
    (
        UNUSED_VERBOSITY,
        Option(
            "d",
            ("notification-fd",),
            "notif",
            "when the handshake is done, write the session's variables to this descriptor and close it",
        ),
        *ENGINE_OPTIONS,
        JAIL,
        LOG_FORMAT,
    ),
    "fdr fdw",
)


def body(argv: list[bytes]) -> int:
    """Carry one session; return its exit code."""
    given = SYNOPSIS.read(argv)
    heed_log_format(given)
    given.number("v", 1)
    fdr, fdw = (number("a descriptor", word, 3, 2**20) for word in given.words)
    notify = given.number("d", 3, 3, 2**20) if given.value("d") is not None else None
    if len({fdr, fdw, notify}) < 3:
        raise UsageError("the descriptors must be different ones")
    fds = Descriptors(0, 1, fdr, fdw, notify)
    for fd in fds.numbers[2:]:
        with unable_to(f"use descriptor {fd}"):
            os.fstat(fd)
    options = engine_options(given)
    parameters = TlsParameters.from_environment(initial_environment(), options)
    credentials = parameters.paths.read()

    from s6tls.tls.engines import engine

    context = engine.confine_and_load(parameters, credentials)
    engine.enter_jail(options)
    return engine.run(context, options, fds)


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
