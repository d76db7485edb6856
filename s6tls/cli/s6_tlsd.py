"""s6-tlsd: TLS between the network and a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, cast

from s6tls.cli.frame.chain import Surroundings, run_link
from s6tls.cli.frame.options import Option, Synopsis, UsageError, in_force, number
from s6tls.stages.tlsd import Tlsd
from s6tls.tls.credentials import ClientCertificate, SessionOptions, SniLevel

if TYPE_CHECKING:
    from s6tls.stages.tlsd import EngineStarter

ENGINE_OPTIONS = (
    Option(
        "S",
        ("close-notify",),
        None,
        "end with close_notify and break the connection at the program's end of file",
    ),
    Option("s", ("no-close-notify",), None, "end by half-closing the connection (the default)", alternative=True),
    Option(
        "J",
        ("enforce-close-notify",),
        None,
        "take end of file without close_notify from the peer for an error",
    ),
    Option("j", ("no-enforce-close-notify",), None, "take it for a normal end (the default)", alternative=True),
    Option("Y", ("client-cert",), None, "ask for an optional client certificate"),
    Option("y", ("mandatory-client-cert",), None, "ask for a mandatory client certificate", alternative=True),
    Option("K", ("handshake-timeout",), "kimeout", "end a handshake after this many milliseconds; 0 is never"),
    Option("k", ("sni-level", "snilevel"), "snilevel", "1: also KEYFILE:name and CERTFILE:name; 2: only those"),
    Option("", ("sni",), None, "the same as -k1", alternative=True),
    Option("", ("mandatory-sni",), None, "the same as -k2", alternative=True),
    Option("", ("alpn",), "protocols", "agree on one of these, separated by commas, the best first"),
)
KEEP_OPTIONS = (
    Option("Z", ("keep",), None, "keep the variables that name keys and certificates"),
    Option("z", ("no-keep",), None, "remove them from the program's environment (the default)", alternative=True),
)
SYNOPSIS = Synopsis(
    "s6-tlsd",
    (
        Option("v", ("verbosity",), "verbosity", "accepted for the reference's sake"),
        *ENGINE_OPTIONS,
        *KEEP_OPTIONS,
    ),
    "prog...",
)


def engine_options(options: Sequence[tuple[str, bytes]]) -> SessionOptions:
    """Read what the engine must know.  Raises UsageError."""
    close_notify = demand = False
    certificate, sni_level, timeout = ClientCertificate.NONE, SniLevel.NONE, 0
    alpn: tuple[bytes, ...] = ()
    for name, value in options:
        if name in "Ss":
            close_notify = name == "S"
        elif name in "Jj":
            demand = name == "J"
        elif name in "Yy":
            certificate = ClientCertificate.OPTIONAL if name == "Y" else ClientCertificate.MANDATORY
        elif name == "k":
            sni_level = SniLevel(min(number("-k", value), 2))
        elif name in ("sni", "mandatory-sni"):
            sni_level = SniLevel.OPTIONAL if name == "sni" else SniLevel.MANDATORY
        elif name == "K":
            timeout = number("-K", value)
        elif name == "alpn":
            alpn = _protocols(value)
        elif name == "v":
            number("-v", value)
    return SessionOptions(close_notify, demand, certificate, sni_level, timeout, alpn=alpn)


def _protocols(value: bytes) -> tuple[bytes, ...]:
    """Read --alpn.  Raises UsageError."""
    names = tuple(value.split(b","))
    if not all(0 < len(name) < 256 for name in names):
        raise UsageError("invalid value for --alpn: names of 1 to 255 bytes, separated by commas, are expected")
    return names


def keeps_parameters(options: Sequence[tuple[str, bytes]]) -> bool:
    """Tell whether the last of -Z and -z, if any, is -Z."""
    return "Z" in in_force(KEEP_OPTIONS, options)


def stage(options: Sequence[tuple[str, bytes]], surroundings: Surroundings) -> Tlsd:
    """Make the stage.  Raises UsageError."""
    carrier = cast("EngineStarter", surroundings.tls_carrier())
    return Tlsd(engine_options(options), keeps_parameters(options), carrier)


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
