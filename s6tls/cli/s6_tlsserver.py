"""s6-tlsserver: the whole chain in one command.

It is the command line ``s6-tcpserver … [s6-tcpserver-access … s6-connlimit] s6-tlsd …
[s6-applyuidgid …] prog…``, written for you.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import NoReturn

from s6tls.cli import proxy_server, s6_applyuidgid, s6_tcpserver, s6_tcpserver_access, s6_tlsd
from s6tls.cli.frame.chain import programs_directory
from s6tls.cli.frame.options import JAIL, Given, Option, Synopsis, UsageError
from s6tls.cli.frame.program import heed_log_format, run
from s6tls.cli.frame.service import ISOLATION, LIMIT_OPTIONS, LongLived, limits
from s6tls.cli.frame.status import Asked
from s6tls.cli.s6_tcpserver_socketbinder import BACKLOG
from s6tls.posix.environment import initial_environment
from s6tls.ucspi.log import log

SYNOPSIS = Synopsis(
    "s6-tlsserver",
    (
        "**the server** ([s6-tcpserver](s6-tcpserver.md))",
        s6_tcpserver.QUIET,
        replace(s6_tcpserver.NORMAL, help="say also what is wrong, and who is allowed (the default)"),
        s6_tcpserver.VERBOSE,
        *LIMIT_OPTIONS,
        BACKLOG,
        *s6_tcpserver.FAMILY_OPTIONS,
        ISOLATION,
        JAIL,
        s6_tcpserver.CHECK,
        "**access** ([s6-tcpserver-access](s6-tcpserver-access.md))",
        *s6_tcpserver_access.ACCESS_OPTIONS,
        Option("e", (), None, "run the access stage in any case (an older option)"),
        "**TLS** ([s6-tlsd](s6-tlsd.md))",
        *(option for option in s6_tlsd.ENGINE_OPTIONS if option not in LIMIT_OPTIONS),
        *s6_tlsd.PROGRAM_OPTIONS,
        *s6_tlsd.KEEP_OPTIONS,
        "**the program's ids** ([s6-applyuidgid](s6-applyuidgid.md))",
        *s6_tcpserver.IDENTITY_OPTIONS,
        "**behind a proxy** ([proxy-server](proxy-server.md))",
        Option(
            "L",
            ("proxy",),
            None,
            "read a PROXY header in clear ahead of TLS; its client takes the proxy's place. "
            "`-K` then bounds the wait for the header, too",
        ),
        Option(
            "",
            ("rules-on",),
            "proxy|client",
            "with `-L`: let the rules judge the proxy, ahead of the header (the default), or the client in the header",
        ),
        proxy_server.TRUSTED,
    ),
    "ip port prog...",
)
_NEED_ACCESS = "wDrplBtixe"  # -H alone leaves the access stage nothing to do


def chain_words(given: Given) -> list[bytes]:
    """Return the command line that follows s6-tcpserver's own words.  Raises UsageError."""
    words: list[bytes] = []
    if not given.flag("H") or given.last(*_NEED_ACCESS):
        verbosity = b"-v%d" % s6_tcpserver.verbosity(given)
        access = _pick(given, s6_tcpserver_access.ACCESS_OPTIONS)
        words += [_ours(b"s6-tcpserver-access"), verbosity, *access, b"--", _ours(b"s6-connlimit")]
    if not given.flag("L") and given.last("rules-on", "trusted-proxies"):
        raise UsageError("--rules-on and --trusted-proxies are about the PROXY header that -L reads")
    if given.flag("L"):
        header = [_ours(b"proxy-server"), b"--before-tlsd", *_header_options(given), b"--"]
        words = header + words if _rules_judge_the_client(given) else words + header
    of_tlsd = (*s6_tlsd.ENGINE_OPTIONS, *s6_tlsd.PROGRAM_OPTIONS, *s6_tlsd.KEEP_OPTIONS)
    words += [_ours(b"s6-tlsd"), *_pick(given, of_tlsd), b"--"]
    identity = [b"-Uz"] if given.flag("U") else _pick(given, s6_applyuidgid.IDENTITY_OPTIONS)
    if identity:
        words += [_ours(b"s6-applyuidgid"), *identity, b"--"]
    if given.flag("L"):
        words += [_ours(b"proxy-server"), b"--after-tlsd", b"--"]
    return [*words, *given.rest]


def _header_options(given: Given) -> list[bytes]:
    """Write the options about the PROXY header: -K bounds it as it does the handshake, for both come in clear."""
    bound = [] if given.value("K") is None else [b"-t", b"%d" % given.number("K", 0)]
    return [*bound, *_pick(given, (proxy_server.TRUSTED,))]


def _rules_judge_the_client(given: Given) -> bool:
    """Read --rules-on.  Raises UsageError."""
    return given.choice("rules-on", "proxy") == "client"


def _pick(given: Given, table: Iterable[Option]) -> list[bytes]:
    """Write the options that belong to `table` as words again."""
    known = {option.name: option for option in table}
    words: list[bytes] = []
    for name, value in given.pairs:
        if name in known:
            words.append(known[name].flag.encode())
            words += [value] if known[name].value else []
    return words


def _ours(program: bytes) -> bytes:
    return os.path.join(programs_directory(), program)


def body(argv: list[bytes]) -> int:
    """Serve until told to stop."""
    given = SYNOPSIS.read(argv)
    heed_log_format(given)
    bounds = limits(given)
    verbosity = s6_tcpserver.verbosity(given)
    only_checks = given.flag("check")
    server = LongLived(
        chain_words(given),
        given.choice("isolation", "connection"),
        given.choice("jail", "best"),
        bounds,
        verbosity,
        Asked.of(given, SYNOPSIS),
        only_checks,
    )
    family = given.last("4", "6")
    if only_checks:
        s6_tcpserver.check_address(given, family)
    else:
        listener = s6_tcpserver.listening_socket(given, family, reuse=True)
    env = initial_environment()
    if verbosity >= 1 and _rules_judge_the_client(given) and given.value("trusted-proxies") is None:
        log(SYNOPSIS.program, "warning", "--rules-on=client without --trusted-proxies: clients can claim any address")
    if only_checks:
        return s6_tcpserver.check(server, env)
    return server.serve(listener, env, announced=given.flag("1"))


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
