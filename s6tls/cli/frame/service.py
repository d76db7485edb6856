"""The long-lived server behind s6-tcpserverd, s6-tcpserver and s6-tlsserver."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.text import shown
from s6tls.cli.frame import chain, status
from s6tls.cli.frame.options import LOG_FORMAT, STALL_TIMEOUT, Given, Option, UsageError, stall_timeout_ms
from s6tls.cli.frame.status import STATUS
from s6tls.helper.helper import LookupHelper
from s6tls.posix.descriptors import count_under_way, raise_soft_limit
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.jail import Level, lacking
from s6tls.posix.linux.libc import hide
from s6tls.posix.process import default_signals, keep_from_programs, redirect_to_null
from s6tls.posix.reactor import Reactor
from s6tls.stages.access import Access
from s6tls.stages.preparation import Preparation, Rereading, prepare
from s6tls.ucspi import systemd
from s6tls.ucspi.image import SERVER, Chain, StageExit
from s6tls.ucspi.ledger import Ledger, Limits
from s6tls.ucspi.listen import end_stalled
from s6tls.ucspi.log import Log, log_exit, silence_warnings
from s6tls.ucspi.rate import Rate
from s6tls.ucspi.rulerates import RuleRates
from s6tls.ucspi.status.counts import Counts, Uncounted
from s6tls.ucspi.superserver import SuperServer

if TYPE_CHECKING:
    from s6tls.stages.tlsd import EngineStarter
    from s6tls.tls.engines.pools import EnginePools
    from s6tls.ucspi.status.door import Door
    from s6tls.ucspi.status.files import Pool

_MOST_CONNECTIONS = 16384
_LONGEST_DRAIN = 7 * 24 * 3600 * 1000
_OWN_FILES = 128
_FILES_OF_A_CLIENT = {"connection": 2, "worker": 5}
"""What a client in its handshake has open: here, or in a worker, which may have all sessions."""
_UNDER_WAY_FOR_A_CLIENT = 4
"""Three are put away for each in its handshake; a fourth leaves room for those that are sent to an engine."""
LIMIT_OPTIONS = (
    Option(
        "1",
        ("notify",),
        None,
        "when clients are accepted, write the port and a newline to standard output, and close it",
    ),
    Option(
        "c",
        ("global-max-connections",),
        "maxconn",
        f"serve at most this many clients at once; others wait in the backlog. Default 40, at most {_MOST_CONNECTIONS}",
    ),
    Option(
        "C",
        ("local-max-connections",),
        "localmaxconn",
        "serve at most this many connections of one client; others are disconnected. Default 40",
    ),
    Option(
        "",
        ("client-prefix",),
        "length",
        "for `-C`, `--rate` and `TCPCONNNUM`, take IPv6 addresses that share this many first bits for one client. "
        "Default 64; 128 tells all addresses apart",
    ),
    Option(
        "",
        ("rate",),
        "number/seconds[,burst]",
        "let one client connect this often, and `burst` times at once (by default, `number` times); others are "
        "disconnected. See [s6-tcpserverd](s6-tcpserverd.md#limits)",
    ),
    STALL_TIMEOUT,
    Option(
        "",
        ("drain",),
        "milliseconds",
        "on SIGTERM, let connections finish for at most this long; 0, the default, exits at once. "
        "See [s6-tcpserverd](s6-tcpserverd.md#signals)",
    ),
    STATUS,
    LOG_FORMAT,
)
ISOLATION = Option(
    "",
    ("isolation",),
    "connection|worker",
    "a process for each TLS session (`connection`, the default), or a few that share them (`worker`: faster, smaller, "
    "less isolated). "
    "See [design.md](design.md#isolation)",
)


class Checked(NamedTuple):
    """What a check has found: the program, the limits that hold, and the paths of the rule sets; `log` is for more."""

    program: bytes
    bounds: Limits
    rules: list[bytes]
    log: Log


class LongLived:
    """The long-lived server: its chain, and what the chain's stages share (a `chain.Runtime`)."""

    long_lived = True
    patience_ms = 30000

    def __init__(
        self,
        argv: Sequence[bytes],
        isolation: str,
        jail: str,
        bounds: Limits,
        verbosity: int,
        asked: status.Asked | None = None,
        only_checks: bool = False,
    ) -> None:
        """Read the chain in `argv`; `isolation` and `jail` are words of ISOLATION and JAIL.  Raises UsageError.

        If `asked` is given, somebody may ask how the server is.  A server that `only_checks` has no TLS engines, but
        examines what they would need.
        """
        self._isolation, self.jail, self._bounds, self._only_checks = isolation, jail, bounds, only_checks
        self._asked = asked
        self._door: Door | None = None
        self._log = Log(SERVER, verbosity)
        self._reactor = Reactor()
        self._pools: EnginePools | None = None
        self._starter: EngineStarter | None = None
        self._lookup_helper: LookupHelper | None = None
        self._rule_rates: list[RuleRates] = []
        self._stages, self._words = chain.parse(argv, self)

    def engine_starter(self) -> EngineStarter:
        """Sessions live in processes that outlive one connection."""
        if self._starter is None:
            self._starter = self._examiner() if self._only_checks else self._new_pools()
        return self._starter

    def _examiner(self) -> EngineStarter:
        from s6tls.tls.engines.examination import Examiner

        return Examiner()

    def _new_pools(self) -> EngineStarter:
        from s6tls.tls.credentials import Isolation
        from s6tls.tls.engines.pools import EnginePools

        self._pools = EnginePools(self._reactor, Isolation(self._isolation))
        return self._pools

    def lookup_helper(self) -> LookupHelper:
        """One helper serves all connections."""
        if self._lookup_helper is None:
            self._lookup_helper = LookupHelper(self._reactor, Level(self.jail))
        return self._lookup_helper

    def rule_rates(self) -> RuleRates:
        """Clients are remembered, for each stage that asks: a client that passes two must not count twice in one."""
        self._rule_rates.append(RuleRates(self._bounds.prefix, self._log, self._reactor.after))
        return self._rule_rates[-1]

    def serve(self, listener: socket.socket, env: dict[bytes, bytes], announced: bool) -> int:
        """Serve a listening socket until told to stop; return the exit code.

        Programs start with `env`.  `announced` writes the port to stdout when clients are accepted.
        """
        silence_warnings(self._log.verbosity == 0)
        self._look_to_the_jail()
        default_signals()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a logger that goes away must not take the server along
        keep_from_programs()
        redirect_to_null(0)
        self._prepare(env)
        bounds, open_files = self._within_limits()
        if bounds.stall_ms:
            end_stalled(listener, bounds.stall_ms)
        if bounds.drain_s:
            systemd.adopt_orphans()
        programs = {name: value for name, value in env.items() if name not in systemd.VARIABLES}
        counts = Uncounted() if self._asked is None else Counts()
        ledger = Ledger(bounds, self._log, self._reactor.after)
        gc.freeze()
        server = SuperServer(
            self._reactor,
            listener,
            Chain(programs, self._stages, self._words, open_files),
            ledger,
            _Lifecycle(self, env, listener.getsockname()[1] if announced else None),
            counts,
        )
        if self._asked is not None:
            self._door = status.door(
                self._asked, self._reactor, server, ledger, counts, self._told_pools, self._stages, self._words
            )
        try:
            server.serve()
        finally:
            self.stopped()
        return 0

    def check(self, env: dict[bytes, bytes]) -> Checked:
        """Do what `serve` does ahead of the first client, and serve nobody.  Raises StageExit as it does."""
        silence_warnings(self._log.verbosity == 0)
        self._look_to_the_jail()
        program = self._prepare(env)
        bounds, _ = self._within_limits()
        rules = [stage.rules for stage in self._stages if isinstance(stage, Access) and stage.rules]
        return Checked(program, bounds, [one.path for one in rules], self._log)

    def _prepare(self, env: dict[bytes, bytes]) -> bytes:
        """Get ready for clients; return the path of the program.  Raises StageExit for what can never work."""
        return prepare(self._stages, self._words, Preparation(dict(env), self._log))

    def _within_limits(self) -> tuple[Limits, int | None]:
        """Allow ourselves all descriptors; return limits that they are enough for, and how many programs may have.

        The latter is None if that is as many.
        """
        before, most = raise_soft_limit()
        bounds = self._bounds
        if self._has_processes:
            of_a_client = _FILES_OF_A_CLIENT[self._isolation]
            if count_under_way():
                of_a_client = max(of_a_client, _UNDER_WAY_FOR_A_CLIENT)
            bounds = _within(most, of_a_client, bounds, self._log)
        return bounds, None if before == most else before

    @property
    def _has_processes(self) -> bool:
        """Whether clients are also served by processes of our own."""
        return self._starter is not None or self._lookup_helper is not None

    def reread(self) -> None:
        """Read all files anew now, and log what is right or wrong with them."""
        self._log.info("received SIGUSR1, reading all files anew", verbosity=1)
        for stage in self._stages:
            if isinstance(stage, Rereading):
                try:
                    stage.reread()
                except StageExit as refused:
                    log_exit(refused)
        if self._pools is not None:
            self._pools.examine()

    def _told_pools(self) -> list[Pool]:
        return [] if self._pools is None else self._pools.told()

    def ready(self) -> None:
        """Tell how the server is to who asks."""
        if self._door is not None:
            self._door.open()

    def stopped(self) -> None:
        """Tell nobody any more."""
        if self._door is not None:
            self._door.close()

    def _look_to_the_jail(self) -> None:
        """See that there can be a jail, and keep who gets out of it from this process.  Raises StageExit (111)."""
        level = Level(self.jail)
        if level is Level.NONE:
            return
        hide()
        if self._has_processes and (walls := lacking()):
            if level is Level.REQUIRED:
                raise StageExit(SERVER, ExitCode.SYSTEM, f"unable to jail TLS engines: this system lacks {walls}")
            self._log.warning(f"TLS engines and the lookup helper are jailed less well: this system lacks {walls}")

    def log_rest(self) -> None:
        """Log what would be told at the end of the minute."""
        for rates in self._rule_rates:
            rates.log_rest()

    def reaped(self, pid: int, status: int) -> None:
        """Take note of the end of a child that was no connection's program."""
        if self._pools is not None:
            self._pools.reaped(pid, status)
        if self._lookup_helper is not None:
            self._lookup_helper.reaped(pid, status)

    def close(self) -> None:
        """Let the processes that serve all connections end when they have nothing left to do."""
        if self._pools is not None:
            self._pools.close()
        if self._lookup_helper is not None:
            self._lookup_helper.close()


@dataclass(frozen=True)
class _Lifecycle:
    """What a server tells its service manager and its children; `port` is written to stdout, unless it is None."""

    server: LongLived
    env: Mapping[bytes, bytes]
    port: int | None

    def ready(self) -> None:
        if self.port is not None:
            with contextlib.suppress(OSError):
                os.write(1, b"%d\n" % self.port)
        redirect_to_null(1)
        self.server.ready()
        systemd.notify(self.env, "READY=1")

    def reread(self) -> None:
        self.server.reread()

    def reaped(self, pid: int, status: int) -> None:
        self.server.reaped(pid, status)

    def stopping(self) -> None:
        self.server.log_rest()
        systemd.notify(self.env, "STOPPING=1")

    def close(self) -> None:
        self.server.close()

    def stopped(self) -> None:
        self.server.stopped()


def limits(given: Given) -> Limits:
    """Read the limits; 0 connections stand for 1, too many for the most there may be.  Raises UsageError."""
    total = min(max(1, given.number("c", 40)), _MOST_CONNECTIONS)
    per_client = max(1, given.number("C", 40))
    drain = given.number("drain", 0, 0, _LONGEST_DRAIN)
    prefix = given.number("client-prefix", 64, 1, 128)
    return Limits(total, min(per_client, total), drain / 1000, prefix, _rate(given), stall_timeout_ms(given))


def _rate(given: Given) -> Rate | None:
    value = given.value("rate")
    if value is None:
        return None
    try:
        return Rate.parse(value)
    except ValueError as error:
        raise UsageError(f"invalid value for --rate: {shown(value)} ({error})") from error


def _within(files: int, of_a_client: int, bounds: Limits, log: Log) -> Limits:
    """Return limits that this many descriptors are enough for, with a warning when they are lower."""
    most = max(1, (files - _OWN_FILES) // of_a_client)
    if most >= bounds.total:
        return bounds
    log.warning(f"limit -c lowered from {bounds.total} to {most}: only {files} descriptors may be open (RLIMIT_NOFILE)")
    return replace(bounds, total=most, per_client=min(bounds.per_client, most))
