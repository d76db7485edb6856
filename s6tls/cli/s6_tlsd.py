"""s6-tlsd: TLS between the network and a program."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

from s6tls.accessrules.identifiers import parse_id
from s6tls.accessrules.text import shown
from s6tls.cli.frame.chain import Runtime, run_link
from s6tls.cli.frame.options import (
    JAIL,
    LOG_FORMAT,
    STALL_TIMEOUT,
    UNUSED_VERBOSITY,
    Given,
    Option,
    Synopsis,
    UsageError,
    stall_timeout_ms,
)
from s6tls.posix.identity import IdRange
from s6tls.posix.jail import Level
from s6tls.posix.process import fork
from s6tls.stages.tlsd import Tlsd, Welcome
from s6tls.tls.credentials import ClientCertificate, SessionOptions, SniLevel
from s6tls.ucspi.spawn import exits

_DAY_S = 24 * 3600
ENGINE_OPTIONS = (
    Option(
        "S",
        ("close-notify",),
        None,
        "when the program ends its output, send close_notify and take nothing more from the client",
    ),
    Option(
        "s",
        ("no-close-notify",),
        None,
        "when the program ends its output, half-close the connection; the other direction goes on (the default)",
        alternative=True,
    ),
    Option(
        "J",
        ("enforce-close-notify",),
        None,
        "take end of file from the client without close_notify for an error (98)",
    ),
    Option("j", ("no-enforce-close-notify",), None, "take it for a normal end (the default)", alternative=True),
    Option("Y", ("client-cert",), None, "ask for a client certificate, and do without if there is none"),
    Option("y", ("mandatory-client-cert",), None, "demand a client certificate", alternative=True),
    Option(
        "K",
        ("handshake-timeout",),
        "kimeout",
        "end a handshake that takes longer than this many milliseconds; 0 is never. "
        "Default 30000 in a server, where it counts from acceptance; else 0",
    ),
    STALL_TIMEOUT,
    Option(
        "k",
        ("sni-level", "snilevel"),
        "snilevel",
        "0: one certificate for all (the default). 1: also those of `KEYFILE:name`. 2: only those",
    ),
    Option("", ("sni",), None, "the same as `-k1`", alternative=True),
    Option("", ("mandatory-sni",), None, "the same as `-k2`", alternative=True),
    Option(
        "",
        ("sni-directory",),
        "directory",
        "with `-k1`, which it implies, or `-k2`: take the pairs for server names from this directory, too. "
        "See [s6-tlsd](s6-tlsd.md#a-directory-of-names)",
    ),
    Option(
        "",
        ("alpn",),
        "protocols",
        "agree with the client on one of these, separated by commas, the best first. See [s6-tlsd](s6-tlsd.md#alpn)",
    ),
    Option(
        "",
        ("tls-min",),
        "1.2|1.3",
        "take no older version of TLS. Default 1.2",
    ),
    Option(
        "",
        ("ciphers",),
        "list",
        "take these ciphers, as `openssl ciphers` writes them; those of TLS 1.3 begin with `TLS_`. "
        "See [s6-tlsd](s6-tlsd.md#algorithms)",
    ),
    Option(
        "",
        ("groups",),
        "list",
        "take these groups for the key exchange, separated by colons, the best first. "
        "See [s6-tlsd](s6-tlsd.md#algorithms)",
    ),
    Option(
        "",
        ("ticket-lifetime",),
        "seconds",
        "make a new key for session tickets after so many seconds, 1 to 604800; tickets of the last key still count. "
        "Default 86400, a day. See [s6-tlsd](s6-tlsd.md#resumption)",
    ),
    Option(
        "",
        ("allow-root-engine",),
        None,
        "let `TLS_UID` or `TLS_GID` be 0: root then parses what strangers send. Otherwise 0 is refused (96)",
    ),
    Option(
        "",
        ("engine-uids",),
        "first-last",
        "give each engine a number of its own from this range for its user and group. "
        "See [s6-tlsd](s6-tlsd.md#an-id-for-each-engine)",
    ),
)
SOCKET = Option(
    "",
    ("socket",),
    None,
    "give the program a socket on 0 and 1, as programs made for inetd want it, instead of two pipes. "
    "See [s6-tlsd](s6-tlsd.md#a-socket-for-the-program)",
)
CGI = Option(
    "",
    ("cgi",),
    None,
    "give the program also the variables of CGI and mod_ssl, such as `REMOTE_ADDR`, `HTTPS` and `SSL_CLIENT_S_DN`. "
    "See [s6-tlsd](s6-tlsd.md#variables-of-cgi)",
)
PROGRAM_OPTIONS = (SOCKET, CGI)
KEEP_OPTIONS = (
    Option("Z", ("keep",), None, "leave the variables that name keys and certificates to the program"),
    Option("z", ("no-keep",), None, "remove them (the default)", alternative=True),
)
SYNOPSIS = Synopsis(
    "s6-tlsd", (UNUSED_VERBOSITY, *ENGINE_OPTIONS, JAIL, LOG_FORMAT, *PROGRAM_OPTIONS, *KEEP_OPTIONS), "prog..."
)


def engine_options(given: Given, patience_ms: int = 0, jail: str = "best") -> SessionOptions:
    """Read what the engine must know; `patience_ms` and `jail` stand for no -K and --jail.  Raises UsageError."""
    return SessionOptions(
        close_notify=given.flag("S"),
        demand_close_notify=given.flag("J"),
        client_certificate=_client_certificate(given),
        sni_level=_sni_level(given),
        sni_directory=_sni_directory(given),
        handshake_timeout_ms=given.number("K", patience_ms),
        stall_timeout_ms=stall_timeout_ms(given),
        alpn=_protocols(given.value("alpn")),
        allow_root=given.flag("allow-root-engine"),
        tls13_only=given.choice("tls-min", "1.2") == "1.3",
        ciphers=_known(given, "ciphers", lambda names: SessionOptions(ciphers=names)),
        groups=_known(given, "groups", lambda names: SessionOptions(groups=names)),
        ticket_lifetime_s=given.number("ticket-lifetime", _DAY_S, 1, 7 * _DAY_S),
        engine_uids=_engine_uids(given.value("engine-uids")),
        jail=Level(given.choice("jail", jail)),
    )


def _client_certificate(given: Given) -> ClientCertificate:
    """Read -y and -Y."""
    if given.flag("Y"):
        return ClientCertificate.OPTIONAL
    return ClientCertificate.MANDATORY if given.flag("y") else ClientCertificate.NONE


def _sni_level(given: Given) -> SniLevel:
    """Read -k, --sni, --mandatory-sni, and what --sni-directory implies.  Raises UsageError."""
    if given.flag("mandatory-sni"):
        return SniLevel.MANDATORY
    level = SniLevel.OPTIONAL if given.flag("sni") else SniLevel(min(given.number("k", 0), 2))
    return max(level, SniLevel.OPTIONAL) if given.flag("sni-directory") else level


def _sni_directory(given: Given) -> bytes:
    """Read --sni-directory.  Raises UsageError."""
    directory = given.value("sni-directory")
    if directory == b"":
        raise UsageError("invalid value for --sni-directory: the name of a directory is expected")
    return directory or b""


def _protocols(value: bytes | None) -> tuple[bytes, ...]:
    """Read --alpn.  Raises UsageError."""
    names = () if value is None else tuple(value.split(b","))
    if not all(0 < len(name) < 256 for name in names):
        raise UsageError("invalid value for --alpn: names of 1 to 255 bytes, separated by commas, are expected")
    return names


def _known(given: Given, name: str, said: Callable[[bytes], SessionOptions]) -> bytes:
    """Read --ciphers or --groups.  Raises UsageError for what the TLS library does not know.

    Only engines load that library, so a child asks it.
    """
    value = given.value(name)
    if value is None:
        return b""
    pid = fork()
    if pid == 0:
        with exits():
            from s6tls.tls.context.algorithms import are_known

            raise SystemExit(0 if value and are_known(said(value)) else 1)
    if os.waitpid(pid, 0)[1] != 0:
        raise UsageError(
            f"invalid value for --{name}: {shown(value)} (expected {name} of OpenSSL, with colons between)"
        )
    return value


def _engine_uids(value: bytes | None) -> IdRange | None:
    """Read --engine-uids.  Raises UsageError."""
    if value is None:
        return None
    try:
        first, last = map(parse_id, value.split(b"-"))
    except ValueError:  # as BadId is
        first, last = 0, 0
    if not 0 < first <= last:
        raise UsageError(f"invalid value for --engine-uids: {shown(value)} (expected first-last, neither of them 0)")
    return IdRange(first, last)


def stage(given: Given, runtime: Runtime) -> Tlsd:
    """Make the stage.  Raises UsageError."""
    given.number("v", 1)
    options = engine_options(given, runtime.patience_ms, runtime.jail)
    return Tlsd(options, Welcome(given.flag("Z"), given.flag("socket"), given.flag("cgi")), runtime.engine_starter())


def main() -> NoReturn:
    """Run the command."""
    run_link(SYNOPSIS, stage)
