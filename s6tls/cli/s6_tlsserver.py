"""s6-tlsserver: the whole chain in one command.

It is the command line ``s6-tcpserver … [s6-tcpserver-access …] s6-tlsd …
[s6-applyuidgid …] prog…``, written for you.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NoReturn

from s6tls.cli import proxy_server, s6_applyuidgid, s6_tcpserver, s6_tcpserver_access, s6_tlsd
from s6tls.cli.frame.chain import programs_directory
from s6tls.cli.frame.options import Option, Synopsis, UsageError, in_force, number
from s6tls.cli.frame.program import run
from s6tls.cli.frame.service import ISOLATION, LIMIT_OPTIONS, Server, limits
from s6tls.cli.s6_tcpserver_socketbinder import BACKLOG
from s6tls.posix.process import initial_environment
from s6tls.ucspi.log import log

SYNOPSIS = Synopsis(
    "s6-tlsserver",
    (
        *s6_tcpserver.VERBOSITY_OPTIONS,
        *LIMIT_OPTIONS,
        BACKLOG,
        *s6_tcpserver_access.ACCESS_OPTIONS,
        Option("e", (), None, "run the access stage in any case (an older option)"),
        *s6_tlsd.ENGINE_OPTIONS,
        *s6_tlsd.KEEP_OPTIONS,
        *s6_applyuidgid.IDENTITY_OPTIONS,
        *s6_tcpserver.FAMILY_OPTIONS,
        ISOLATION,
        Option("L", ("proxy",), None, "read a PROXY header in clear ahead of TLS"),
        Option("", ("rules-on",), "proxy|client", "with -L: let rules judge the proxy (the default) or its client"),
        proxy_server.TRUSTED,
    ),
    "ip port prog...",
)
_NEED_ACCESS = set("wDrplBtixe")  # -H alone leaves the access stage nothing to do


def chain_words(options: Sequence[tuple[str, bytes]], prog: Sequence[bytes]) -> list[bytes]:
    """Return the command line that follows s6-tcpserver's own words."""
    given = in_force(SYNOPSIS.options, options).keys()
    words: list[bytes] = []
    if "H" not in given or given & _NEED_ACCESS:
        verbosity = b"-v%d" % s6_tcpserver.verbosity(options)
        access = _pick(options, s6_tcpserver_access.ACCESS_OPTIONS)
        words += [_ours(b"s6-tcpserver-access"), verbosity, *access, b"--"]
    if "L" not in given and given & {"rules-on", "trusted-proxies"}:
        raise UsageError("--rules-on and --trusted-proxies are about the PROXY header that -L reads")
    if "L" in given:
        header = [_ours(b"proxy-server"), b"--before-tlsd", *_header_options(options), b"--"]
        words = header + words if _rules_judge_the_client(options) else words + header
    words += [_ours(b"s6-tlsd"), *_pick(options, (*s6_tlsd.ENGINE_OPTIONS, *s6_tlsd.KEEP_OPTIONS)), b"--"]
    identity = [b"-Uz"] if "U" in given else _pick(options, s6_applyuidgid.IDENTITY_OPTIONS)
    if identity:
        words += [_ours(b"s6-applyuidgid"), *identity, b"--"]
    if "L" in given:
        words += [_ours(b"proxy-server"), b"--after-tlsd", b"--"]
    return [*words, *prog]


def _header_options(options: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """Write the options about the PROXY header: -K bounds it as it does the handshake, for both come in clear."""
    bound = number("-K", dict(options).get("K", b"0"))
    return [*([b"-t", b"%d" % bound] if bound else []), *_pick(options, (proxy_server.TRUSTED,))]


def _rules_judge_the_client(options: Sequence[tuple[str, bytes]]) -> bool:
    """Read --rules-on.  Raises UsageError."""
    given = dict(options)
    judged = given.get("rules-on", b"proxy")
    if judged not in (b"proxy", b"client"):
        raise UsageError("--rules-on is either proxy or client")
    return judged == b"client"


def _pick(options: Iterable[tuple[str, bytes]], table: Iterable[Option]) -> list[bytes]:
    """Write the options that belong to `table` as words again."""
    known = {option.name: option for option in table}
    words: list[bytes] = []
    for name, value in options:
        if name in known:
            words.append(known[name].flag.encode())
            words += [value] if known[name].value else []
    return words


def _ours(program: bytes) -> bytes:
    return os.path.join(programs_directory(), program)


def body(argv: list[bytes]) -> int:
    """Serve until told to stop."""
    options, words = SYNOPSIS.parse(argv)
    if len(words) < 3:
        raise UsageError
    given = dict(options)
    bounds = limits(given)
    verbosity = s6_tcpserver.verbosity(options)
    server = Server(chain_words(options, words[2:]), given.get("isolation", b"connection"))
    bind_options = [pair for pair in options if pair[0] in "b46"]
    listener = s6_tcpserver.listening_socket(bind_options, words[0], words[1])
    env = initial_environment()
    if verbosity >= 1 and _rules_judge_the_client(options) and "trusted-proxies" not in given:
        log(SYNOPSIS.program, "warning", "--rules-on=client without --trusted-proxies: clients can claim any address")
    return server.serve(listener, env, bounds, verbosity, announced="1" in given)


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
