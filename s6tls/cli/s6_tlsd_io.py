"""s6-tlsd-io: the TLS engine on its own, between the network on 0 and 1 and two descriptors of clear text."""

from __future__ import annotations

import os
from typing import NoReturn

from s6tls.cli.frame.options import Option, Synopsis, UsageError, number
from s6tls.cli.frame.program import run, unable_to
from s6tls.cli.s6_tlsd import ENGINE_OPTIONS, engine_options
from s6tls.posix.process import initial_environment
from s6tls.tls.credentials import TlsParameters
from s6tls.tls.ends import Descriptors

SYNOPSIS = Synopsis(
    "s6-tlsd-io",
    (
        Option("v", ("verbosity",), "verbosity", "accepted for the reference's sake"),
        Option("d", ("notification-fd",), "notif", "write session variables here when the handshake is done"),
        *ENGINE_OPTIONS,
    ),
    "fdr fdw",
)


def body(argv: list[bytes]) -> int:
    """Carry one session; return its exit code."""
    given, words = SYNOPSIS.parse(argv)
    if len(words) != 2:
        raise UsageError
    fdr, fdw = (number("a descriptor", word, 3, 2**20) for word in words)
    notify = number("-d", dict(given)["d"], 3, 2**20) if "d" in dict(given) else None
    if len({fdr, fdw, notify}) < 3:
        raise UsageError("the descriptors must be different ones")
    fds = Descriptors(0, 1, fdr, fdw, notify)
    for fd in fds.numbers[2:]:
        with unable_to(f"use descriptor {fd}"):
            os.fstat(fd)
    options = engine_options([pair for pair in given if pair[0] != "d"])
    parameters = TlsParameters.from_environment(initial_environment(), options)
    credentials = parameters.paths.read()

    from s6tls.tls import engine

    context = engine.confine_and_load(parameters, credentials)
    return engine.run(context, options, fds)


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
